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
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.deltas.merge import add_networks
from lib_pg.weak_branch import WeakBranch
from tests.pipelines import relative_error

ROWS = 4
OMEGA = 0.3
STRENGTH = -0.7


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def linear() -> tuple[nn.Module, Tensor]:
    return nn.Linear(12, 10), torch.randn(ROWS, 5, 12)


def linear_of_vectors() -> tuple[nn.Module, Tensor]:
    return nn.Linear(12, 10, bias=False), torch.randn(ROWS, 12)


def convolution(**options: Any) -> tuple[nn.Module, Tensor]:
    return nn.Conv2d(6, 8, **({"kernel_size": 3, "padding": 1} | options)), torch.randn(ROWS, 6, 9, 11)


def channels_last() -> tuple[nn.Module, Tensor]:
    layer, x = convolution()
    return layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)


LAYERS = {
    "linear": linear,
    "vectors": linear_of_vectors,
    "3x3": convolution,
    "1x1": lambda: convolution(kernel_size=1, padding=0),
    "strided": lambda: convolution(stride=2),
    "oblong": lambda: convolution(kernel_size=(1, 3), padding=(0, 1)),
    "dilated": lambda: convolution(dilation=2, padding=2),
    "circular": lambda: convolution(padding_mode="circular"),
    "channels last": channels_last,
}
layers = pytest.mark.parametrize("layer", LAYERS)


def make(layer: str, seed: int = 0) -> tuple[nn.Module, Tensor, LowRank]:
    torch.manual_seed(seed)
    module, x = LAYERS[layer]()
    shape = module.weight.shape
    return module, x, LowRank(torch.randn(3, *shape[1:]), torch.randn(shape[0], 3) * 0.2, scale=0.5)


def weakened(module: nn.Module, networks: list[ActiveNetwork], ratios: list[float]) -> nn.Module:
    """Return a copy of a layer with theta_w = theta_ft - (1 - omega) strength dW in its weight."""
    other = copy.deepcopy(module)
    other._forward_hooks.clear()
    for network, ratio in zip(networks, ratios, strict=True):
        delta = network.deltas[module]
        add_networks([ActiveNetwork("", {other: delta}, network.strength)], ratio - 1.0)
    return other


def expected(module: nn.Module, weak: nn.Module, x: Tensor, rows: list[int]) -> Tensor:
    output = module(x).clone()
    output[rows] = weak(x)[rows]
    return output


@layers
@pytest.mark.parametrize("rows", [[0, 1], [2, 3], [1, 3], [0, 1, 2, 3], [], [3, 0]])
def test_weak_rows_and_no_others_see_the_weak_weight(layer: str, rows: list[int]) -> None:
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    plain = module(x)
    with WeakBranch(networks) as branch:
        branch.set_rows(rows, ROWS)
        branch.set_ratios(OMEGA)
        output = module(x)
    strong = [row for row in range(ROWS) if row not in rows]
    assert torch.equal(output[strong], plain[strong])
    assert relative_error(output, expected(module, weakened(module, networks, [OMEGA]), x, rows)) < 1e-6


@layers
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_no_more_than_a_merge(layer: str, dtype: torch.dtype) -> None:
    module, x, delta = make(layer)
    module, x = module.to(dtype), x.to(dtype)
    exact = copy.deepcopy(module).float()
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    add_networks([ActiveNetwork("n", {exact: delta}, STRENGTH)], OMEGA - 1.0)
    with WeakBranch(networks) as branch:
        branch.set_rows(range(ROWS), ROWS)
        branch.set_ratios(OMEGA)
        ours = module(x)
    assert ours.dtype == dtype
    truth = exact(x.float())
    merged = weakened(module, networks, [OMEGA])(x)
    assert relative_error(ours, truth) < 1.5 * relative_error(merged, truth)


@layers
def test_autocast_and_inference_mode(layer: str) -> None:
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), WeakBranch(networks) as branch:
        branch.set_rows([0, 1], ROWS)
        branch.set_ratios(OMEGA)
        output = module(x)
    assert output.dtype == torch.bfloat16
    assert relative_error(output, expected(module, weakened(module, networks, [OMEGA]), x, [0, 1])) < 0.01


def test_factors_follow_a_layer_that_changes_dtype() -> None:
    """As they follow it between devices: by what its output is now."""
    module, x, delta = make("linear")
    networks = [ActiveNetwork("n", {module: delta})]
    with WeakBranch(networks) as branch:
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
    with WeakBranch([ActiveNetwork("n", {module: delta})]) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        module.to("meta")
        assert module(x.to("meta")).device.type == "meta"  # fails where a factor has stayed behind


@pytest.mark.parametrize("layer", ["linear", "3x3"])
@pytest.mark.parametrize("fold", [2, 6])
def test_tiles_folded_into_the_batch_belong_to_their_row(layer: str, fold: int) -> None:
    module, x, delta = make(layer)
    networks = [ActiveNetwork("n", {module: delta}, STRENGTH)]
    tiles = torch.randn(2 * fold, *x.shape[1:])
    with WeakBranch(networks) as branch:
        branch.set_rows([1], 2)
        branch.set_ratios(OMEGA)
        output = module(tiles)
    rows = list(range(fold, 2 * fold))
    assert relative_error(output, expected(module, weakened(module, networks, [OMEGA]), tiles, rows)) < 1e-6


def test_rows_that_cannot_be_told_are_an_error_and_leave_nothing() -> None:
    module, x, delta = make("linear")
    with (
        pytest.raises(RuntimeError, match="4 rows, which is no multiple of the 3"),
        WeakBranch([ActiveNetwork("n", {module: delta})]) as branch,
    ):
        branch.set_rows([0], 3)
        branch.set_ratios(OMEGA)
        module(x)
    assert not module._forward_hooks


@layers
def test_two_networks_on_one_layer_have_ratios_of_their_own(layer: str) -> None:
    module, x, first = make(layer)
    shape = module.weight.shape
    second = LowRank(torch.randn(5, *shape[1:]), torch.randn(shape[0], 5) * 0.2)
    networks = [ActiveNetwork("a", {module: first}, STRENGTH), ActiveNetwork("b", {module: second}, 1.3)]
    with WeakBranch(networks) as branch:
        branch.set_rows([0, 2], ROWS)
        branch.set_ratios([0.1, 0.9])
        output = module(x)
    reference = expected(module, weakened(module, networks, [0.1, 0.9]), x, [0, 2])
    assert relative_error(output, reference) < 1e-6


@given(st.floats(0.0, 1.0), st.sampled_from(sorted(LAYERS)))
@settings(deadline=None, max_examples=40)
def test_the_output_is_linear_in_omega(omega: float, layer: str) -> None:
    module, x, delta = make(layer)
    outputs = []
    with WeakBranch([ActiveNetwork("n", {module: delta}, STRENGTH)]) as branch:
        branch.set_rows(range(ROWS), ROWS)
        for ratio in (0.0, 1.0, omega):  # omega changes from one call to the next
            branch.set_ratios(ratio)
            outputs.append(module(x))
    base, full, between = outputs
    assert torch.equal(full, module(x))
    assert relative_error(between, base + omega * (full - base)) < 1e-6


@given(st.sets(st.integers(0, ROWS - 1)), st.permutations(range(ROWS)), st.sampled_from(sorted(LAYERS)))
@settings(deadline=None, max_examples=60)
def test_rows_do_not_depend_on_each_other_nor_on_order(weak: set[int], order: list[int], layer: str) -> None:
    module, x, delta = make(layer)
    with WeakBranch([ActiveNetwork("n", {module: delta}, STRENGTH)]) as branch:
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


@given(st.lists(st.sampled_from(["attach", "detach", "call"]), max_size=12))
@settings(deadline=None, max_examples=60)
def test_any_order_of_attaching_and_detaching_ends_clean(actions: list[str]) -> None:
    module, x, delta = make("linear")
    weight, plain = module.weight.clone(), module(x)
    branch = WeakBranch([ActiveNetwork("n", {module: delta})])
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
        assert len(module._forward_hooks) == attached
    branch.detach()
    branch.detach()
    assert not module._forward_hooks
    assert torch.equal(module.weight, weight)


def test_an_exception_in_a_forward_leaves_nothing() -> None:
    module, x, delta = make("linear")

    def fail(*_: Any) -> None:
        raise MemoryError

    model = nn.Sequential(module, nn.Identity())
    model[1].register_forward_hook(fail)
    with pytest.raises(MemoryError), WeakBranch([ActiveNetwork("n", {module: delta})]) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        model(x)
    assert not module._forward_hooks


def test_a_hook_that_was_copied_elsewhere_does_nothing_after_the_run() -> None:
    module, x, delta = make("linear")
    plain = module(x)
    with WeakBranch([ActiveNetwork("n", {module: delta})]) as branch:
        branch.set_rows([0], ROWS)
        branch.set_ratios(OMEGA)
        (hook,) = module._forward_hooks.values()
    stray = module.register_forward_hook(hook, with_kwargs=True)
    assert torch.equal(module(x), plain)
    stray.remove()


def test_another_branch_on_the_same_layer_is_refused() -> None:
    module, _, delta = make("linear")
    free = nn.Linear(12, 10)
    other = WeakBranch([ActiveNetwork("n", {free: delta, module: delta})])
    with WeakBranch([ActiveNetwork("n", {module: delta})]):
        with pytest.raises(RuntimeError, match="1 of 2 layers"):
            other.attach()
        assert not free._forward_hooks


@pytest.mark.parametrize(
    ("layer", "delta", "error", "message"),
    [
        (nn.LayerNorm(4), LowRank(torch.ones(1, 4), torch.ones(4, 1)), TypeError, "LayerNorm"),
        (nn.Linear(4, 5), LowRank(torch.ones(1, 4), torch.ones(4, 1)), ValueError, r"\(4, 4\).*\(5, 4\)"),
        (
            nn.Conv2d(4, 4, 1, groups=2),
            LowRank(torch.ones(1, 2, 1, 1), torch.ones(4, 1)),
            ValueError,
            "2 gro",
        ),
        (nn.Conv2d(4, 4, 3), LowRank(torch.ones(1, 4, 1, 1), torch.ones(4, 1)), ValueError, "another model"),
    ],
)
def test_a_layer_that_cannot_be_weakened_is_refused(
    layer: nn.Module, delta: LowRank, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        WeakBranch([ActiveNetwork("n", {layer: delta})])


def test_wrong_rows_and_ratios_are_refused() -> None:
    module, _, delta = make("linear")
    branch = WeakBranch([ActiveNetwork("n", {module: delta})])
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
@pytest.mark.parametrize("networks", [1, 2])
def test_a_layer_costs_two_more_kernels_a_network_and_no_copy(layer: str, networks: int) -> None:
    module, x, delta = make(layer)
    branch = WeakBranch([ActiveNetwork("n", {module: delta})] * networks)
    branch.set_rows([0, 1], ROWS)
    branch.set_ratios(OMEGA)
    with Kernels() as plain:
        module(x)
    with branch, Kernels() as guided:
        module(x)
    extra = Counter(guided.names) - Counter(plain.names)
    assert extra.total() == 2 * networks
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
