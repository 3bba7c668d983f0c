"""Deltas on live layers: which rows they change, by how much, and what is left afterwards."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.deltas.merge import add_networks
from lib_pg.weak_branch.hooks import is_taken
from tests.pipelines import relative_error
from tests.weak_branch.layers import (
    ENGINES,
    LAYERS,
    OMEGA,
    ROWS,
    STRENGTH,
    branch_of,
    engines,
    expected,
    layers,
    make,
    weakened,
)

ANY_ENGINE = st.sampled_from(ENGINES)
NAMES = st.sampled_from(sorted(LAYERS))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@engines
@layers
@pytest.mark.parametrize("rows", [[0, 1], [2, 3], [1, 3], [0, 1, 2, 3], [], [3, 0]])
def test_weak_rows_and_no_others_see_the_weak_weight(engine: str, layer: str, rows: list[int]) -> None:
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    plain = module(x)
    with branch_of(networks, engine) as branch:
        branch.set_rows(rows, ROWS)
        branch.set_ratios(OMEGA)
        output = module(x)
    strong = [row for row in range(ROWS) if row not in rows]
    if engine == "thin":
        assert torch.equal(output[strong], plain[strong])
    assert relative_error(output, expected(module, weakened(module, networks, [OMEGA]), x, rows)) < 1e-6


@engines
@layers
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_no_more_than_a_merge(engine: str, layer: str, dtype: torch.dtype) -> None:
    module, x, delta = make(layer)
    module, x = module.to(dtype), x.to(dtype)
    exact = copy.deepcopy(module).float()
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    add_networks([ActiveNetwork("n", {exact: delta}, STRENGTH)], OMEGA - 1.0)
    with branch_of(networks, engine) as branch:
        branch.set_rows(range(ROWS), ROWS)
        branch.set_ratios(OMEGA)
        ours = module(x)
    assert ours.dtype == dtype
    truth = exact(x.float())
    merged = weakened(module, networks, [OMEGA])(x)
    assert relative_error(ours, truth) < 1.5 * relative_error(merged, truth)


@engines
@layers
def test_autocast_and_inference_mode(engine: str, layer: str) -> None:
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), branch_of(networks, engine) as branch:
        branch.set_rows([0, 1], ROWS)
        branch.set_ratios(OMEGA)
        output = module(x)
    assert output.dtype == torch.bfloat16
    assert relative_error(output, expected(module, weakened(module, networks, [OMEGA]), x, [0, 1])) < 0.01


@engines
def test_factors_follow_a_layer_that_changes_dtype(engine: str) -> None:
    """As they follow it between devices: by what its output is now."""
    module, x, delta = make("linear")
    networks = [ActiveNetwork("n", {module: delta})]
    with branch_of(networks, engine) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
            module.to(dtype)
            output = module(x.to(dtype))
            reference = weakened(module, networks, [OMEGA])(x.to(dtype))
            assert output.dtype == dtype
            assert relative_error(output[0], reference[0]) < (1e-2 if dtype == torch.bfloat16 else 1e-6)


def test_factors_follow_a_layer_to_another_device() -> None:
    module, x, delta = make("linear")
    with branch_of([ActiveNetwork("n", {module: delta})]) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        module.to("meta")
        assert module(x.to("meta")).device.type == "meta"  # fails where a factor has stayed behind


@engines
@pytest.mark.parametrize("layer", ["linear", "3x3"])
@pytest.mark.parametrize("fold", [2, 6])
def test_tiles_folded_into_the_batch_belong_to_their_row(engine: str, layer: str, fold: int) -> None:
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    tiles = torch.randn(2 * fold, *x.shape[1:])
    with branch_of(networks, engine) as branch:
        branch.set_rows([1], 2)
        branch.set_ratios(OMEGA)
        output = module(tiles)
    rows = list(range(fold, 2 * fold))
    assert relative_error(output, expected(module, weakened(module, networks, [OMEGA]), tiles, rows)) < 1e-6


@engines
@layers
def test_two_networks_on_one_layer_have_ratios_of_their_own(engine: str, layer: str) -> None:
    module, x, first = make(layer)
    shape = module.weight.shape
    second = LowRank(torch.randn(5, *shape[1:]), torch.randn(shape[0], 5) * 0.2)
    networks = [ActiveNetwork("a", {module: first}, STRENGTH), ActiveNetwork("b", {module: second}, 1.3)]
    with branch_of(networks, engine) as branch:
        branch.set_rows([0, 2], ROWS)
        branch.set_ratios([0.1, 0.9])
        output = module(x)
    reference = expected(module, weakened(module, networks, [0.1, 0.9]), x, [0, 2])
    assert relative_error(output, reference) < 1e-6


@engines
@layers
@pytest.mark.parametrize("strength", [STRENGTH, 0.0])
def test_a_strength_of_the_weak_branch_s_own_is_what_the_weak_rows_have(
    engine: str, layer: str, strength: float
) -> None:
    """At strength 0 only the weak branch has the network."""
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, strength, weak_strength=1.5)]
    weak = weakened(module, [ActiveNetwork("n", {module: delta}, 1.0)], [1.0 + 1.5 - strength])
    with branch_of(networks, engine) as branch:
        branch.set_rows([1, 2], ROWS)
        for ratio in (0.0, 0.3, 1.0):
            branch.set_ratios(ratio)
            output = module(x)
            branch.set_rows([], ROWS)
            reference = expected(module, weak, x, [1, 2])
            branch.set_rows([1, 2], ROWS)
            assert relative_error(output, reference) < 1e-6


@given(ANY_ENGINE, st.floats(0.0, 1.0), NAMES)
@settings(deadline=None, max_examples=40)
def test_the_output_is_linear_in_omega(engine: str, omega: float, layer: str) -> None:
    module, x, delta = make(layer)
    outputs = []
    with branch_of([ActiveNetwork("n", {module: delta}, STRENGTH)], engine) as branch:
        branch.set_rows(range(ROWS), ROWS)
        for ratio in (0.0, 1.0, omega):  # omega changes from one call to the next
            branch.set_ratios(ratio)
            outputs.append(module(x))
    base, full, between = outputs
    assert torch.equal(full, module(x))
    assert relative_error(between, base + omega * (full - base)) < 1e-6


@given(
    ANY_ENGINE,
    st.sets(st.integers(0, ROWS - 1)),
    st.permutations(range(ROWS)),
    NAMES,
)
@settings(deadline=None, max_examples=60)
def test_rows_do_not_depend_on_each_other_nor_on_order(
    engine: str, weak: set[int], order: list[int], layer: str
) -> None:
    module, x, delta = make(layer)
    with branch_of([ActiveNetwork("n", {module: delta}, STRENGTH)], engine) as branch:
        branch.set_ratios(OMEGA)
        branch.set_rows(weak, ROWS)
        together = module(x)
        branch.set_rows([order.index(row) for row in weak], ROWS)
        reordered = module(x[order])
        alone = []
        for row in range(ROWS):  # a host may split the batch
            branch.set_rows([0] if row in weak else [], 1)
            alone.append(module(x[row : row + 1]))
    assert relative_error(reordered, together[order]) < 1e-6
    assert relative_error(torch.cat(alone), together) < 1e-6


@given(ANY_ENGINE, st.lists(st.sampled_from(["attach", "detach", "call"]), max_size=12))
@settings(deadline=None, max_examples=60)
def test_any_order_of_attaching_and_detaching_ends_clean(engine: str, actions: list[str]) -> None:
    module, x, delta = make("linear")
    weight, plain = module.weight.clone(), module(x)
    branch = branch_of([ActiveNetwork("n", {module: delta})], engine)
    branch.set_rows([0], ROWS)
    branch.set_ratios(OMEGA)
    attached = False
    for action in actions:
        if action == "attach" and attached:
            with pytest.raises(RuntimeError, match="already"):
                branch.attach()
        elif action == "attach":
            branch.attach()
            attached = True
        elif action == "detach":
            branch.detach()
            attached = False
        assert torch.equal(module(x), plain) is not attached
        assert is_taken(module) == attached
    branch.detach()
    branch.detach()
    assert not is_taken(module)
    assert torch.equal(module.weight, weight)


@engines
def test_an_exception_in_a_forward_leaves_nothing(engine: str) -> None:
    module, x, delta = make("linear")

    def fail(*_: Any) -> None:
        raise MemoryError

    model = nn.Sequential(module, nn.Identity())
    model[1].register_forward_hook(fail)
    with pytest.raises(MemoryError), branch_of([ActiveNetwork("n", {module: delta})], engine) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        model(x)
    assert not is_taken(module)


def test_a_forward_that_was_copied_elsewhere_does_nothing_after_the_run() -> None:
    module, x, delta = make("linear")
    plain = module(x)
    with branch_of([ActiveNetwork("n", {module: delta})]) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        stray = module.forward
        assert not torch.equal(stray(x), plain)
    assert torch.equal(stray(x), plain)


def test_another_branch_on_the_same_layer_is_refused() -> None:
    module, _, delta = make("linear")
    free = nn.Linear(12, 10)
    other = branch_of([ActiveNetwork("n", {free: delta, module: delta})])
    with branch_of([ActiveNetwork("n", {module: delta})]):
        with pytest.raises(RuntimeError, match="1 of 2 layers"):
            other.attach()
        assert not is_taken(free)


@pytest.mark.parametrize(
    ("layer", "delta", "error", "message"),
    [
        (nn.LayerNorm(4), LowRank(torch.ones(1, 4), torch.ones(4, 1)), ValueError, r"\(4, 4\).*\(4,\)"),
        (nn.Linear(4, 5), LowRank(torch.ones(1, 4), torch.ones(4, 1)), ValueError, r"\(4, 4\).*\(5, 4\)"),
        (nn.Conv2d(4, 4, 3), LowRank(torch.ones(1, 4, 1, 1), torch.ones(4, 1)), ValueError, "another model"),
    ],
)
def test_a_layer_that_cannot_be_weakened_is_refused(
    layer: nn.Module, delta: LowRank, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        branch_of([ActiveNetwork("n", {layer: delta})])


def test_wrong_rows_and_ratios_are_refused() -> None:
    module, _, delta = make("linear")
    branch = branch_of([ActiveNetwork("n", {module: delta})])
    with pytest.raises(ValueError, match=r"\[0, 2\)"):
        branch.set_rows([2], 2)
    with pytest.raises(ValueError, match="2 weak ratios given for 1"):
        branch.set_ratios([0.1, 0.2])


def test_factors_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"up is torch.float32 on cpu, down is torch.float16"):
        LowRank(torch.ones(3, 5).half(), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"up is \(4, 2\), down is \(3, 5\)"):
        LowRank(torch.ones(3, 5), torch.ones(4, 2))


@pytest.mark.parametrize("layer", sorted(LAYERS.keys() - {"circular"}))  # which has to be padded by copying
@pytest.mark.parametrize("ratios", [[0.3], [0.3, 0.3], [0.3, 0.6, 1.0]], ids=str)
def test_a_layer_costs_two_more_kernels_a_network_at_most_and_no_copy(
    layer: str, ratios: list[float]
) -> None:
    """Linear layers multiply x once for all networks, and once more where all have the same factor."""
    module, x, delta = make(layer)
    branch = branch_of([ActiveNetwork("n", {module: delta})] * len(ratios))
    branch.set_rows([0, 1], ROWS)
    branch.set_ratios(ratios)
    with Kernels() as plain:
        module(x)
    with branch:
        module(x)  # brings the factors to where the layer computes, once
        with Kernels() as guided:
            module(x)
    extra = Counter(guided.names) - Counter(plain.names)
    weakened = {ratio for ratio in ratios if ratio != 1.0}
    linear = isinstance(module, nn.Linear)
    assert extra.total() == (1 + len(weakened) if linear else 2 * sum(ratio != 1.0 for ratio in ratios))
    assert not {name for name in extra if "copy" in name or "clone" in name or "cat" in name}


class Kernels(TorchDispatchMode):
    """Collects the names of the operations that compute or copy something; views do neither."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_view = any(
            output.alias_info and not output.alias_info.is_write for output in function._schema.returns
        )
        if not is_view and function._schema.name != "aten::_unsafe_view":
            self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


def test_no_copy_of_the_factors_is_made_where_none_is_needed() -> None:
    _, x, delta = make("linear")
    assert delta.to(x.device, x.dtype) is delta
