"""The joined engine: one product where it can be one, the other engine's output where it cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.weak_branch import WeakBranch, joined
from lib_pg.weak_branch.joined import JoinedLayer
from lib_pg.weak_branch.weights import WeakWeights
from tests.pipelines import relative_error
from tests.weak_branch.layers import OMEGA, ROWS, STRENGTH, branch_of, expected, make, weakened

WEAK = pytest.mark.parametrize("rows", [[0, 1], [2, 3]], ids=["weak first", "weak last"])
LINEAR = pytest.mark.parametrize("layer", ["linear", "vectors"])


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def network_of(module: nn.Module, delta: LowRank) -> ActiveNetwork:
    return ActiveNetwork("n", {module: delta}, STRENGTH)


def guided(branch: WeakBranch, rows: Sequence[int], omega: float = OMEGA, total: int = ROWS) -> WeakBranch:
    branch.set_ratios(omega)
    branch.set_rows(rows, total)
    return branch


def operations(call: Callable[[], Any]) -> list[str]:
    """Return the names of what a call has torch do; views are no operations."""
    found: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not function.is_view and "view" not in function.name() and "empty" not in function.name():
                found.append(function.name().removeprefix("aten::"))
            return function(*args, **(kwargs or {}))

    with Watch():
        call()
    return found


@LINEAR
@WEAK
def test_a_call_is_one_product(layer: str, rows: list[int]) -> None:
    module, x, delta = make(layer)
    with guided(branch_of([network_of(module, delta)], "joined"), rows):
        module(x)
        done = operations(lambda: module(x))
    assert done == (["bmm"] if module.bias is None else ["bmm", "add_.Tensor"])


@LINEAR
@WEAK
def test_a_large_call_begins_with_the_bias(
    layer: str, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "_LARGE", 0)
    module, x, delta = make(layer)
    network = network_of(module, delta)
    with guided(branch_of([network], "joined"), rows):
        output = module(x)
        done = operations(lambda: module(x))
    assert done == (["bmm"] if module.bias is None else ["addmm.out"] * 2)
    assert relative_error(output, expected(module, weakened(module, [network], [OMEGA]), x, rows)) < 1e-6


@pytest.mark.parametrize("rows", [[0], [1, 3], [0, 1, 2], [0, 3]])
@pytest.mark.parametrize("engine", ["thin", "split"])
def test_other_rows_are_the_other_engine_s_to_the_bit(engine: str, rows: list[int]) -> None:
    module, x, delta = make("linear")
    outputs = []
    for joins in (None, lambda module, forward: True):
        with guided(branch_of([network_of(module, delta)], engine, joins=joins), rows):
            outputs.append(module(x))
    assert torch.equal(*outputs)


@LINEAR
def test_at_omega_1_it_is_the_layer_s_own_to_the_bit(layer: str) -> None:
    module, x, delta = make(layer)
    plain = module(x)
    with guided(branch_of([network_of(module, delta)], "joined"), [0, 1], 1.0) as branch:
        assert torch.equal(module(x), plain)
        branch.set_ratios(OMEGA)
        assert not torch.equal(module(x), plain)
        branch.set_ratios(1.0)
        assert torch.equal(module(x), plain)


@LINEAR
def test_it_follows_a_weight_that_is_replaced_written_or_moved(layer: str) -> None:
    module, x, delta = make(layer)
    network = network_of(module, delta)
    changes: list[Callable[[], Any]] = [
        lambda: setattr(module, "weight", nn.Parameter(2 * module.weight)),
        lambda: module.weight.mul_(0.5),
        lambda: setattr(module.weight, "data", module.weight.data.clone() + 1),
    ]
    with guided(branch_of([network], "joined"), [2, 3]):
        module(x)
        for change in changes:
            change()
            output = module(x)
            assert operations(lambda: module(x))[0] == "bmm"
            assert relative_error(output, reference(module, network, x, [2, 3])) < 1e-6


def reference(module: nn.Module, network: ActiveNetwork, x: Tensor, rows: list[int]) -> Tensor:
    plain = copy.deepcopy(module)
    vars(plain).pop("forward", None)
    return expected(plain, weakened(module, [network], [OMEGA]), x, rows)


def test_a_bias_that_is_replaced_is_the_new_one() -> None:
    module, x, delta = make("linear")
    network = network_of(module, delta)
    with guided(branch_of([network], "joined"), [0, 1]):
        module(x)
        module.bias = nn.Parameter(module.bias + 1)
        assert relative_error(module(x), reference(module, network, x, [0, 1])) < 1e-6


def test_a_weight_that_moves_at_every_call_is_left_to_the_other_engine() -> None:
    module, x, delta = make("linear")
    network = network_of(module, delta)
    with guided(branch_of([network], "joined"), [0, 1]) as branch:
        for _ in range(10):
            module.weight.data = module.weight.data.clone()
            output = module(x)
        assert operations(lambda: module(x))[0] == "addmm"
        assert branch.nbytes == delta.nbytes
    assert relative_error(output, reference(module, network, x, [0, 1])) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_x_is_cast_as_torch_does(dtype: torch.dtype) -> None:
    module, x, delta = make("linear")
    network = network_of(module.to(dtype), delta)
    with torch.autocast("cpu", dtype):
        plain = module(x)
        with guided(branch_of([network], "joined"), [0, 1]):
            output = module(x)
            assert "bmm" in operations(lambda: module(x))
        wanted = reference(module, network, x, [0, 1])
    assert output.dtype == plain.dtype == dtype
    assert relative_error(output, wanted) < 0.01
    assert relative_error(output[2:], plain[2:]) < 0.01


def test_another_order_of_the_halves_is_another_product() -> None:
    module, x, delta = make("linear")
    network = network_of(module, delta)
    with guided(branch_of([network], "joined"), [0, 1]) as branch:
        for rows in ([0, 1], [2, 3], [0, 1]):
            branch.set_rows(rows, ROWS)
            assert relative_error(module(x), reference(module, network, x, rows)) < 1e-6


def test_what_is_kept_is_both_weights_and_goes_with_the_run() -> None:
    module, x, delta = make("linear")
    branch = guided(branch_of([network_of(module, delta)], "joined"), [0, 1])
    for _ in range(2):
        with branch:
            module(x)
            assert branch.nbytes == 2 * module.weight.nbytes + delta.nbytes
        assert branch.nbytes == delta.nbytes
        assert "forward" not in vars(module)


@pytest.mark.parametrize(("owner", "name"), [(WeakWeights, "at"), (torch, "bmm")])
def test_without_memory_all_layers_do_without(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [make("linear", seed) for seed in range(3)]
    deltas: dict[nn.Module, LowRank] = {module: delta for module, _, delta in made}
    network = ActiveNetwork("n", deltas, STRENGTH)
    with guided(branch_of([network], "joined"), [0, 1]) as branch:
        made[0][0](made[0][1])

        def fail(*_: Any) -> Any:
            raise torch.cuda.OutOfMemoryError("no memory")

        monkeypatch.setattr(owner, name, fail)
        assert not branch.is_short_of_memory
        outputs = [module(x) for module, x, _ in made]
        assert branch.is_short_of_memory
        assert branch.nbytes == sum(delta.nbytes for delta in deltas.values())
        outputs[0] = made[0][0](made[0][1])
    for output, (module, x, delta) in zip(outputs, made, strict=True):
        wanted = reference(module, network_of(module, delta), x, [0, 1])
        assert relative_error(output, wanted) < 1e-6


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (WeakWeights, "are_strong"),
        (WeakWeights, "at"),
        (JoinedLayer, "_find_halves"),
        (joined, "operand"),
        (torch, "bmm"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_wherever_it_fails_the_output_is_the_host_s(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x, delta = make("linear")
    plain, faults = module(x), list[Exception]()

    def fail(*_: Any) -> Any:
        raise ValueError("a fault")

    branch = branch_of([network_of(module, delta)], "joined", on_fault=faults.append)
    with guided(branch, [0, 1]):
        monkeypatch.setattr(owner, name, fail)
        assert torch.equal(module(x), plain)
        assert torch.equal(module(x), plain), "it goes on"
    assert len(faults) == 1
