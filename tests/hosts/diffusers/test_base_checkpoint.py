"""A full fine-tune against its base: weak rows are those of explicitly interpolated checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lib_pg.formats.checkpoint import Source
from lib_pg.hosts.diffusers import guided, installed, load_base_checkpoint, models_of
from lib_pg.networks import Network
from tests.checkpoints import folder_of, moved, single_file_of
from tests.hosts.diffusers.unet_calls import calls_of, null_prompt_of, weak_forward
from tests.pipelines import (
    NEGATIVE,
    Make,
    families,
    hooks_of,
    random_network,
    relative_error,
    same_bits,
    sample,
    sd_pipeline,
    settings,
    weights_of,
)

FORMS = {
    "folder": folder_of,
    "file": lambda pipeline, path: single_file_of(pipeline, path / "base.safetensors"),
}
forms = pytest.mark.parametrize("form", FORMS)


@torch.no_grad()
def between(make: Make, omega: float, network: Network | None = None, own: float = 1.0) -> Any:
    """The pipeline at base + omega (fine-tune - base), with what a network adds at omega `own`."""
    low, high = make(), moved(make())
    for component, model in models_of(low).items():
        for value, other in zip(model.parameters(), models_of(high)[component].parameters(), strict=True):
            value.add_((other - value) * omega)
    for component, part in network.parts.items() if network else ():
        for layer, delta in zip(adapted(low, component), part.deltas.values(), strict=True):
            layer.weight.add_(delta.dense() * part.strength * own)  # the same on any weights
    return low


def adapted(pipeline: Any, component: str) -> list[nn.Module]:
    model = models_of(pipeline)[component]
    return [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


@families
@forms
@pytest.mark.parametrize("batch", [1, 3])
def test_weak_rows_are_the_interpolated_checkpoint_s(
    tmp_path: Path, make: Make, form: str, batch: int
) -> None:
    path = FORMS[form](make(), tmp_path)
    path = path if path.is_dir() else tmp_path / "base.safetensors"
    pipeline, said = moved(make()), []
    base = load_base_checkpoint(pipeline, path, "dream", said.append)
    assert not said
    assert base.network.parts.keys() == models_of(pipeline).keys()
    sample(pipeline, num_inference_steps=1)  # transformers puts hooks of its own on at the first call
    before, hooks = weights_of(pipeline), hooks_of(pipeline)
    controls = settings(schedule="Linear", weak_ratio=1.0, weak_ratio_end=0.0)
    with guided(pipeline, [], controls, base=base) as run, calls_of(pipeline) as calls:
        sample(pipeline, batch=batch, negative_prompt=NEGATIVE, num_inference_steps=3)
    assert run.ran
    assert same_bits(weights_of(pipeline), before)
    assert hooks_of(pipeline) == hooks
    for call, omega in zip(calls, (1.0, 0.5, 0.0), strict=True):
        weak = between(make, omega)
        expected = weak_forward(weak, call, slice(0, batch), null_prompt_of(weak))
        assert relative_error(call.output[:batch], expected) < 1e-5
    last = between(make, 1.0)
    expected = weak_forward(last, calls[2], slice(0, batch), null_prompt_of(last))
    assert relative_error(calls[2].output[:batch], expected) > 0.01  # what the fine-tune changes


@families
def test_omega_one_is_cfg_bit_for_bit(tmp_path: Path, make: Make) -> None:
    path = folder_of(make(), tmp_path)
    pipeline = moved(make())
    base = load_base_checkpoint(pipeline, path)
    plain = sample(pipeline)
    with guided(pipeline, [], settings(weak_ratio=1.0), base=base) as run:
        ours = sample(pipeline, negative_prompt=NEGATIVE)
    assert run.ran
    assert torch.equal(ours, plain)


@families
@pytest.mark.parametrize(("own", "omega"), [(None, 0.4), (0.9, 0.3), (1.0, 0.6)])
def test_networks_on_top_keep_their_own_ratio(
    tmp_path: Path, make: Make, own: float | None, omega: float
) -> None:
    path = folder_of(make(), tmp_path)
    pipeline = moved(make())
    network = random_network(pipeline, own_ratio=own)
    base = load_base_checkpoint(pipeline, path)
    before = weights_of(pipeline)
    with ExitStack() as stack:
        stack.enter_context(installed([network]))
        stack.enter_context(guided(pipeline, [network], settings(weak_ratio=omega), base=base))
        calls = stack.enter_context(calls_of(pipeline))
        sample(pipeline, negative_prompt=NEGATIVE, num_inference_steps=1)
    assert same_bits(weights_of(pipeline), before)
    weak = between(make, omega, network, omega if own is None else own)
    expected = weak_forward(weak, calls[0], slice(0, 1), null_prompt_of(weak))
    assert relative_error(calls[0].output[:1], expected) < 1e-5


def test_layers_that_are_equal_cost_nothing_and_are_counted(tmp_path: Path) -> None:
    path = folder_of(sd_pipeline(), tmp_path)
    pipeline = sd_pipeline()
    with torch.no_grad():
        pipeline.unet.conv_in.weight.add_(0.1)
        pipeline.unet.conv_norm_out.bias.add_(0.1)
    base = load_base_checkpoint(pipeline, path)
    layers = [
        module for model in models_of(pipeline).values() for module in model.modules() if module._parameters
    ]
    assert (base.changed, base.equal) == (
        2,
        sum(any(v is not None for v in m._parameters.values()) for m in layers) - 2,
    )
    assert base.network.parts["unet"].deltas.keys() == {pipeline.unet.conv_in, pipeline.unet.conv_norm_out}
    with guided(pipeline, [], settings(weak_ratio=0.5), base=base):
        sample(pipeline)
    whole = sum(weights.nbytes for weights in base.kept.values())
    assert whole == pipeline.unet.conv_in.weight.nbytes + pipeline.unet.conv_norm_out.bias.nbytes


def test_weak_weights_are_kept_from_run_to_run_and_made_anew_for_another_omega(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(sd_pipeline(), tmp_path)
    pipeline = moved(sd_pipeline())
    base = load_base_checkpoint(pipeline, path)
    read: list[object] = []

    once = Source._read

    def load(source: Source, *args: Any) -> Iterator[int]:
        read.append(source)
        return once(source, *args)

    monkeypatch.setattr(Source, "_read", load)
    pictures, counts = [], []
    for omega in (0.5, 0.5, 0.2, 0.5):
        read.clear()
        with guided(pipeline, [], settings(weak_ratio=omega), base=base):
            pictures.append(sample(pipeline))
        counts.append(len(read))
    text = counts[1]  # the null prompt of each run is encoded anew
    unet = sum(1 for _ in pipeline.unet.parameters())
    assert counts == [unet + text, text, unet + text, unet + text]
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[3])
    assert not torch.equal(pictures[0], pictures[2])


def test_a_base_without_text_encoder_leaves_the_loaded_one(tmp_path: Path) -> None:
    path = single_file_of(sd_pipeline(), tmp_path / "pruned.safetensors", text=False)
    pipeline, said = moved(sd_pipeline()), []
    base = load_base_checkpoint(pipeline, path, "dream", said.append)
    assert said == ["pruned has no text encoder; both branches have that of dream"]
    assert base.network.parts.keys() == {"unet"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_base_in_half_precision_is_equal_to_the_same_in_half_precision(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    path = single_file_of(sd_pipeline(), tmp_path / "half.safetensors", dtype)
    assert load_base_checkpoint(sd_pipeline(dtype), path).changed == 0
    base = load_base_checkpoint(moved(sd_pipeline(dtype)), path)
    assert base.equal == 0


def test_the_same_checkpoint_is_said_to_be_no_base(tmp_path: Path) -> None:
    path = folder_of(sd_pipeline(), tmp_path)
    pipeline, said = sd_pipeline(), []
    base = load_base_checkpoint(pipeline, path, "dream")
    with guided(pipeline, [], settings(), said.append, base=base):
        sample(pipeline)
    assert any("has the very weights of dream; choose what it started from" in line for line in said)
