"""Whole U-Nets, the bundled one among them: which rows are weak, in which order, in how many calls."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from lib_pg.cli.paths import BUNDLED_LORA, BUNDLED_PIPELINE
from lib_pg.deltas import ActiveNetwork
from lib_pg.deltas.merge import merged
from lib_pg.formats import match, read_network
from lib_pg.weak_branch import WeakBranch
from tests.pipelines import random_network, relative_error, same_bits, sd_pipeline, sdxl_pipeline

OMEGA = 0.35
STRENGTH = 0.9
ORDERS = {
    "weak first": lambda batch: list(range(batch)),
    "weak last": lambda batch: list(range(batch, 2 * batch)),
    "in turns": lambda batch: list(range(0, 2 * batch, 2)),
}


@pytest.fixture(scope="module", params=["SD", "SDXL", "bundled"])
def case(request: pytest.FixtureRequest) -> tuple[UNet2DConditionModel, ActiveNetwork]:
    if request.param == "bundled":
        unet = UNet2DConditionModel.from_pretrained(BUNDLED_PIPELINE / "unet", torch_dtype=torch.float32)
        deltas = match(read_network(BUNDLED_LORA), {"unet": unet}).deltas["unet"]
        floats = {layer: delta.to(torch.device("cpu"), torch.float32) for layer, delta in deltas.items()}
        return unet, ActiveNetwork("star", floats, STRENGTH)
    pipeline = sd_pipeline() if request.param == "SD" else sdxl_pipeline()
    return pipeline.unet, random_network(pipeline, strength=STRENGTH).parts["unet"]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def inputs(unet: Any, rows: int) -> dict[str, Any]:
    torch.manual_seed(3)
    text = torch.randn(rows, 12, unet.config.cross_attention_dim)
    given = {
        "sample": torch.randn(rows, 4, 16, 16),
        "timestep": torch.tensor(500.0),
        "encoder_hidden_states": text,
    }
    if unet.config.addition_embed_type == "text_time":
        sizes = torch.tensor([64.0, 64.0, 0.0, 0.0, 64.0, 64.0]).repeat(rows, 1)
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(rows, 16), "time_ids": sizes}
    return given


def take(given: Any, rows: list[int], dtype: torch.dtype) -> Any:
    if isinstance(given, dict):
        return {key: take(value, rows, dtype) for key, value in given.items()}
    return given[rows].to(dtype) if given.ndim else given


def call(unet: Any, given: dict[str, Any], rows: list[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return unet(**take(given, rows, dtype), return_dict=False)[0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("split", [1, 2], ids=["one call", "a call a row"])
def test_any_order_and_any_split_equals_interpolated_weights(
    case: Any, order: str, batch: int, split: int
) -> None:
    unet, network = case
    weak, every = ORDERS[order](batch), list(range(2 * batch))
    given = inputs(unet, 2 * batch)
    with merged([network], OMEGA):
        reference = call(unet, given, weak)
    with merged([network]):
        plain = call(unet, given, every)
        with WeakBranch([network]) as branch:
            branch.set_ratios(OMEGA)
            output = torch.cat([_guided(branch, unet, given, rows, weak) for rows in _calls(every, split)])
    strong = [row for row in every if row not in weak]
    assert relative_error(output[weak], reference) < 1e-5
    assert relative_error(output[strong], plain[strong]) < 1e-5
    assert relative_error(plain[weak], reference) > 1e-3  # a branch that does nothing would show


def test_omega_zero_is_the_base_model(case: Any) -> None:
    unet, network = case
    given = inputs(unet, 2)
    base = call(unet, given, [0])
    with merged([network]), WeakBranch([network]) as branch:
        branch.set_ratios(0.0)
        output = _guided(branch, unet, given, [0, 1], [0])
    assert relative_error(output[:1], base) < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
def test_bfloat16_rounds_no_more_than_merging_would(case: Any, batch: int) -> None:
    unet, network = case
    given, weak, every = inputs(unet, 2 * batch), list(range(batch)), list(range(2 * batch))
    with merged([network], OMEGA):
        truth = call(unet, given, weak)
    half, half_network = _copied(unet, network, torch.bfloat16)
    with merged([half_network], OMEGA):
        remerged = call(half, given, weak, torch.bfloat16)
    with merged([half_network]), WeakBranch([half_network]) as branch:
        branch.set_ratios(OMEGA)
        ours = _guided(branch, half, given, every, weak, torch.bfloat16)[weak]
    assert ours.dtype == torch.bfloat16
    assert relative_error(ours, truth) < 1.5 * relative_error(remerged, truth)


def test_weights_and_hooks_are_as_before(case: Any) -> None:
    unet, network = case
    before = [weight.clone() for weight in unet.state_dict().values()]
    with merged([network]), WeakBranch([network]) as branch:
        branch.set_ratios(OMEGA)
        _guided(branch, unet, inputs(unet, 2), [0, 1], [0])
    assert same_bits([*unet.state_dict().values()], before)
    assert not any(module._forward_hooks for module in unet.modules())


def _calls(rows: list[int], split: int) -> list[list[int]]:
    return [rows] if split == 1 else [[row] for row in rows]


def _guided(
    branch: WeakBranch,
    unet: Any,
    given: Any,
    rows: list[int],
    weak: list[int],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Call the U-Net with some rows of `given`; those of them that are in `weak` are weak."""
    branch.set_rows([rows.index(row) for row in weak if row in rows], len(rows))
    return call(unet, given, rows, dtype)


def _copied(unet: Any, network: ActiveNetwork, dtype: torch.dtype) -> tuple[Any, ActiveNetwork]:
    """Return a U-Net and its network in another precision."""
    other = copy.deepcopy(unet).to(dtype)
    paths = {module: path for path, module in unet.named_modules()}
    deltas = {other.get_submodule(paths[module]): delta for module, delta in network.deltas.items()}
    return other, ActiveNetwork(network.name, deltas, network.strength)
