"""A fault of the weak branch itself in mid-run: the host's call returns what it would have without us."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lib_pg.deltas import ActiveNetwork
from lib_pg.weak_branch import split
from lib_pg.weak_branch.split import SplitLayer
from lib_pg.weak_branch.state import BranchState
from lib_pg.weak_branch.weights import WeakWeights
from tests.weak_branch.layers import OMEGA, ROWS, STRENGTH, branch_of, make


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def fail(*_: Any) -> Any:
    raise torch.OutOfMemoryError("no memory")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (WeakWeights, "are_strong"),
        (WeakWeights, "at"),
        (BranchState, "share"),
        (SplitLayer, "_into_one"),
        (SplitLayer, "_weak"),
        (SplitLayer, "_is_plain_product"),
        (split, "_take"),
        (split, "_start"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("layer", ["linear", "3x3"])
def test_wherever_a_split_layer_fails_its_output_is_the_host_s(
    owner: Any, name: str, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x, delta = make(layer)
    plain, faults = module(x), list[Exception]()
    with branch_of(
        [ActiveNetwork("n", {module: delta}, STRENGTH)], "split", on_fault=faults.append
    ) as branch:
        branch.set_ratios(OMEGA)
        branch.set_rows([0, 3], ROWS)
        guided = module(x)
        monkeypatch.setattr(owner, name, fail)
        output = module(x)
        assert torch.equal(module(x), output), "it goes on"
    assert not torch.equal(guided, plain)
    if faults:
        assert torch.equal(output, plain) and len(faults) == 1
    else:  # a function that this layer does not need
        unneeded = {"linear": ("_weak", "_take", "_start"), "3x3": ("_into_one",)}
        assert name in unneeded[layer]
        assert torch.equal(output, guided)


def test_an_error_of_the_host_s_own_forward_is_the_host_s() -> None:
    module, x, delta = make("3x3")
    faults: list[Exception] = []
    with branch_of(
        [ActiveNetwork("n", {module: delta}, STRENGTH)], "split", on_fault=faults.append
    ) as branch:
        branch.set_ratios(OMEGA)
        branch.set_rows([0, 3], ROWS)
        with pytest.raises((RuntimeError, ValueError)):
            module(x[:, :1])
    assert faults == []
