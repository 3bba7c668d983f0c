"""A full fine-tune whose differences are cut to a low rank: less memory, and what that loses is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib_pg.deltas.truncated import Truncated, truncate
from lib_pg.hosts.base_checkpoint import BaseCheckpoint
from lib_pg.hosts.diffusers import guided, installed, load_base_checkpoint, models_of
from lib_pg.weak_branch import WeakBranch
from tests.checkpoints import folder_of, moved
from tests.hosts.diffusers.unet_calls import calls_of, null_prompt_of, weak_forward
from tests.pipelines import (
    NEGATIVE,
    random_network,
    relative_error,
    same_bits,
    sample,
    sd_pipeline,
    settings,
    weights_of,
)

RANK = 2


@torch.no_grad()
def moved_by_low_rank(pipeline: Any, share: float = 1.0) -> Any:
    """Every weight of the U-Net moved by a product of rank 2, and every bias, by `share` of that."""
    generator = torch.Generator().manual_seed(2)
    for layer in pipeline.unet.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            shape = layer.weight.flatten(1).shape
            left, right = (torch.randn(size, generator=generator) for size in ((shape[0], 2), (2, shape[1])))
            change = (left @ right).view(layer.weight.shape)
            layer.weight.add_(change * (0.3 * share * layer.weight.norm() / change.norm()))
            if layer.bias is not None:
                layer.bias.add_(0.1 * share * torch.randn(layer.bias.shape, generator=generator))
    return pipeline


def compared(folder: Path, pipeline: Any, rank: int = RANK) -> BaseCheckpoint:
    return load_base_checkpoint(pipeline, folder_of(sd_pipeline(), folder), rank=rank)


def test_differences_of_that_rank_lose_nothing(tmp_path: Path) -> None:
    pipeline = moved_by_low_rank(sd_pipeline())
    before = weights_of(pipeline)
    noise = torch.random.get_rng_state()
    base = compared(tmp_path, pipeline)
    assert torch.equal(torch.random.get_rng_state(), noise)
    assert base.error < 1e-4
    deltas = base.network.parts["unet"].deltas
    assert sum(isinstance(delta, Truncated) for delta in deltas.values()) > 20
    with guided(pipeline, [], settings(weak_ratio=0.3), base=base), calls_of(pipeline) as calls:
        sample(pipeline, batch=2, negative_prompt=NEGATIVE, num_inference_steps=1)
    assert same_bits(weights_of(pipeline), before)
    weak = moved_by_low_rank(sd_pipeline(), 0.3)
    expected = weak_forward(weak, calls[0], slice(0, 2), null_prompt_of(weak))
    assert relative_error(calls[0].output[:2], expected) < 1e-4


def test_a_network_on_top(tmp_path: Path) -> None:
    pipeline = moved_by_low_rank(sd_pipeline())
    network = random_network(pipeline, own_ratio=0.8)
    base = compared(tmp_path, pipeline)
    run = guided(pipeline, [network], settings(weak_ratio=0.3), base=base)
    with installed([network]), run, calls_of(pipeline) as calls:
        sample(pipeline, negative_prompt=NEGATIVE, num_inference_steps=1)
    weak = moved_by_low_rank(sd_pipeline(), 0.3)
    with torch.no_grad():
        for component, part in network.parts.items():
            layers = [
                m for m in models_of(weak)[component].modules() if isinstance(m, (nn.Linear, nn.Conv2d))
            ]
            for layer, delta in zip(layers, part.deltas.values(), strict=True):
                layer.weight.add_(delta.dense() * part.strength * 0.8)
    expected = weak_forward(weak, calls[0], slice(0, 1), null_prompt_of(weak))
    assert relative_error(calls[0].output[:1], expected) < 1e-4


def test_what_is_lost_is_said_and_is_less_with_a_higher_rank(tmp_path: Path) -> None:
    pipeline = moved(sd_pipeline())
    errors = [compared(tmp_path, pipeline, rank).error for rank in (1, 2, 4)]
    assert 1.0 > errors[0] > errors[1] > errors[2] > 0.1
    assert "low rank keeps all but " in compared(tmp_path, pipeline, 2).describe()


def test_it_takes_less_memory_and_omega_one_is_cfg_to_the_bit(tmp_path: Path) -> None:
    pipeline = moved(sd_pipeline())
    plain = sample(pipeline)
    sizes = []
    for rank in (0, RANK):
        base = compared(tmp_path, pipeline, rank)
        branch = WeakBranch([base.network.parts["unet"]], pristine=base.pristine, kept=base.kept)
        with guided(pipeline, [], settings(weak_ratio=1.0), base=base):
            assert torch.equal(sample(pipeline, negative_prompt=NEGATIVE), plain)
        with guided(pipeline, [], settings(weak_ratio=0.4), base=base) as run:
            sample(pipeline)
            sizes.append(run._branch.nbytes)
        assert branch.describe().count("thin") == bool(rank)
    assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_truncation_is_the_nearest_of_its_rank(kind: str) -> None:
    torch.manual_seed(0)
    difference = torch.randn(24, 6, 3, 3) if kind == "convolution" else torch.randn(24, 20)
    found, lost = truncate(difference, None, 5)
    left, values, right = torch.linalg.svd(difference.flatten(1), full_matrices=False)
    best = (left[:, :5] * values[:5] @ right[:5]).view(difference.shape)
    least = float(values[5:].square().sum())
    assert least <= lost * (1 + 1e-6) and lost < 1.01 * least
    assert relative_error(found.dense(), difference) < 1.01 * relative_error(best, difference)
