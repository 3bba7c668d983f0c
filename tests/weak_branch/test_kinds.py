"""Weak rows of every kind of network against explicitly interpolated weights, under all engines."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork
from lib_pg.deltas.dora import Dora
from lib_pg.deltas.ia3 import IA3
from lib_pg.deltas.merge import merged
from lib_pg.formats import read_network
from lib_pg.weak_branch import WeakBranch
from tests.oracles import CASES, Example, example
from tests.pipelines import relative_error
from tests.weak_branch.layers import branch_of as split_of

STRENGTH = 0.8
engines = pytest.mark.parametrize("engine", ["chosen", "split", "joined"])
# All others have a thin form, which is chosen for layers as small as these.
WITHOUT_THIN_FORM = (
    "LoHa, Tucker",
    "LoHa with DoRA",
    "LoKr with DoRA",
    "BOFT",
    "full difference",
    "norm",
    "PEFT LoRA with a bias",
    "PEFT LoRA of an embedding",
    "PEFT LoHa, effective",
)
cases = pytest.mark.parametrize("case", CASES)
# Two kinds on one layer: the second is made for what the first has left.
PAIRS = {
    "LoRA and LoKr": ("LoRA-0", "LoKr-0"),
    "LoRA and DoRA": ("LoRA-1", "DoRA by output-2"),
    "LoHa and (IA)3": ("LoHa-1", "(IA)3 by input-2"),
    "OFT and GLoRA": ("OFT-0", "GLoRA-0"),
    "BOFT and a full difference": ("BOFT-0", "full difference-0"),
    "a bias and DoRA": ("PEFT LoRA with a bias-0", "DoRA by input-0"),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def network_of(made: Example, layer: nn.Module, strength: float = STRENGTH) -> ActiveNetwork:
    (delta,) = read_network(made.path).layers.values()
    return ActiveNetwork("n", {layer: delta.fitted(tuple(layer.weight.shape))}, strength)


def branch_of(network: ActiveNetwork, engine: str) -> WeakBranch:
    if engine == "split":
        return split_of([network], "split")
    return WeakBranch([network], joins=None if engine == "chosen" else lambda layer, forward: True)


def changes(made: Example) -> dict[str, Tensor]:
    """What the library adds to each parameter at strength 1."""
    before = made.layer._parameters
    return {
        name: after - (torch.zeros_like(after) if before.get(name) is None else before[name])
        for name, after in made.merged.items()
    }


def with_changes(layer: nn.Module, added: Sequence[tuple[Mapping[str, Tensor], float]]) -> nn.Module:
    """A copy of a layer with changes in its parameters, each times a number."""
    other = copy.deepcopy(layer)
    for change, factor in added:
        for name, value in change.items():
            old = other._parameters.get(name)
            new = value * factor if old is None else old.float() + value * factor
            other._parameters[name] = nn.Parameter(new.to(other.weight.dtype))
    return other


def input_of(layer: nn.Module, rows: int) -> Tensor:
    if isinstance(layer, nn.Embedding):
        return torch.randint(layer.num_embeddings, (rows, 7))
    if isinstance(layer, nn.Conv2d):
        return torch.randn(rows, layer.in_channels, 9, 11)
    if isinstance(layer, nn.GroupNorm):
        return torch.randn(rows, layer.num_channels, 5, 4)
    width = layer.in_features if isinstance(layer, nn.Linear) else layer.normalized_shape[0]
    return torch.randn(rows, 5, width)


@engines
@cases
@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("weak_first", [True, False], ids=["weak first", "weak last"])
def test_weak_rows_are_those_of_the_interpolated_layer(
    tmp_path: Path, engine: str, case: str, pictures: int, weak_first: bool
) -> None:
    made = example(case, tmp_path)
    layer, pristine, added = made.layer, copy.deepcopy(made.layer), changes(made)
    x = input_of(layer, 2 * pictures)
    network = network_of(made, layer)
    first, last = slice(0, pictures), slice(pictures, None)
    weak, strong = (first, last) if weak_first else (last, first)
    with merged([network]):
        plain = layer(x)
        with branch_of(network, engine) as branch:
            branch.set_rows(range(2 * pictures)[weak], 2 * pictures)
            for omega in (0.0, 0.3, 0.9, 1.0, 0.55):
                branch.set_ratios(omega)
                output = layer(x)
                interpolated = with_changes(pristine, [(added, omega * STRENGTH)])
                assert relative_error(output[weak], interpolated(x)[weak]) < 1e-5
                assert relative_error(output[strong], plain[strong]) < 1e-6
                assert omega < 1.0 or torch.equal(output, plain)
    for name, value in pristine.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value)
    assert layer.state_dict().keys() == pristine.state_dict().keys()


@engines
@cases
def test_bfloat16_rounds_no_more_than_a_merge(tmp_path: Path, engine: str, case: str) -> None:
    made = example(case, tmp_path)
    exact, added = copy.deepcopy(made.layer), changes(made)
    exact.load_state_dict({name: value.bfloat16() for name, value in exact.state_dict().items()})
    x = input_of(exact, 4)
    x = x if x.dtype == torch.int64 else x.bfloat16()
    layer = copy.deepcopy(exact).bfloat16()
    truth = with_changes(exact, [(added, 0.3 * STRENGTH)])
    rounded = copy.deepcopy(truth).bfloat16()
    network = network_of(made, layer)
    with merged([network]), branch_of(network, engine) as branch:
        branch.set_rows(range(4), 4)
        branch.set_ratios(0.3)
        ours = layer(x)
    assert ours.dtype == torch.bfloat16
    expected = truth(x if x.dtype == torch.int64 else x.float())
    # As one merge rounds, and for the thin engine a second, that of the weights it starts from.
    allowed = 1.2 if engine == "split" else 2.5
    assert relative_error(ours, expected) < allowed * relative_error(rounded(x), expected) + 4e-3


@cases
def test_kinds_cheaper_than_their_layer_are_thin(tmp_path: Path, case: str) -> None:
    made = example(case, tmp_path)
    network = network_of(made, made.layer)
    with merged([network]):
        branch = WeakBranch([network])
    without = case.startswith(WITHOUT_THIN_FORM) or getattr(made.layer, "groups", 1) > 1
    expected = "split" if without else "thin"
    assert branch.describe().startswith(f"1 {expected} (")


@pytest.mark.parametrize(
    "case", ["(IA)3 by output-0", "(IA)3 by input-2", "DoRA by output-0", "DoRA by input-2"]
)
def test_what_cannot_be_undone_is_split(tmp_path: Path, case: str) -> None:
    """One feature is scaled by nothing in the strong branch: dividing by it would lose the weak one."""
    made = example(case, tmp_path)
    pristine, network = copy.deepcopy(made.layer), network_of(made, made.layer, 1.0)
    ((layer, delta),) = network.deltas.items()
    assert isinstance(delta, (IA3, Dora))
    vector = delta.vector if isinstance(delta, IA3) else delta.magnitude
    vector[2] = -1.0 if isinstance(delta, IA3) else 0.0
    added = delta.contribution(dict(pristine._parameters), 1.0)
    x = input_of(layer, 2)
    with merged([network]), WeakBranch([network]) as branch:
        assert branch.describe().startswith("1 split")
        branch.set_rows([0], 2)
        branch.set_ratios(0.4)
        output = layer(x)
    assert relative_error(output[0], with_changes(pristine, [(added, 0.4)])(x)[0]) < 1e-5


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("omegas", [(0.5, 0.5), (0.2, 0.9), (1.0, 0.0)])
def test_two_kinds_on_one_layer_keep_their_own_omegas(
    tmp_path: Path, pair: str, omegas: tuple[float, float]
) -> None:
    one, two = PAIRS[pair]
    first = example(one, tmp_path)
    layer, pristine, added = first.layer, copy.deepcopy(first.layer), changes(first)
    between = with_changes(pristine, [(added, 1.0)])
    (tmp_path / "second").mkdir()
    second = example(two, tmp_path / "second", seed=1, layer=between)
    networks = [network_of(first, layer, 1.0), network_of(second, layer, 1.0)]
    x = input_of(layer, 4)
    interpolated = with_changes(pristine, [(added, omegas[0]), (changes(second), omegas[1])])
    with merged(networks), WeakBranch(networks) as branch:
        branch.set_rows([0, 1], 4)
        branch.set_ratios(omegas)
        output = layer(x)
    full = with_changes(pristine, [(added, 1.0), (changes(second), 1.0)])
    assert relative_error(output[:2], interpolated(x)[:2]) < 1e-5
    assert relative_error(output[2:], full(x)[2:]) < 1e-5


def test_a_branch_keeps_no_weights_behind_its_run(tmp_path: Path) -> None:
    made = example("LoHa-0", tmp_path)
    layer = copy.deepcopy(made.layer)
    network = network_of(made, layer)
    branch = split_of([network], "split")
    with merged([network]), branch:
        branch.set_rows([0], 2)
        branch.set_ratios(0.4)
        layer(input_of(layer, 2))
        assert branch.nbytes >= layer.weight.nbytes
    assert branch.nbytes == 0


@cases
def test_a_strength_of_its_own_in_the_weak_branch(tmp_path: Path, case: str) -> None:
    """Also of a network that the strong branch does not have."""
    made = example(case, tmp_path)
    layer, pristine, added = made.layer, copy.deepcopy(made.layer), changes(made)
    x = input_of(layer, 4)
    for strength, own in ((0.8, 0.4), (0.0, 1.0), (1.0, -0.5)):
        network = replace(network_of(made, layer, strength), weak_strength=own)
        with merged([network]), WeakBranch([network]) as branch:
            branch.set_rows([0, 1], 4)
            branch.set_ratios(0.9)
            output = layer(x)
        assert relative_error(output[:2], with_changes(pristine, [(added, own)])(x)[:2]) < 1e-5
        assert relative_error(output[2:], with_changes(pristine, [(added, strength)])(x)[2:]) < 1e-5


@engines
@cases
def test_what_a_branch_keeps_goes_with_it(tmp_path: Path, engine: str, case: str) -> None:
    """And not when Python looks for circles of references: it may be a device's memory."""
    made = example(case, tmp_path)
    network, x = network_of(made, made.layer), input_of(made.layer, 2)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with merged([network]), branch_of(network, engine) as branch:
            branch.set_rows([0], 2)
            branch.set_ratios(0.5)
            made.layer(x)
        del branch
        gc.collect()
        left = [tuple(value.shape) for value in gc.garbage if isinstance(value, Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not left
