"""Every kind of network adds what the library that wrote its file merges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib_pg.deltas import Delta, Parameters
from lib_pg.formats import read_network
from tests.oracles import CASES, Example, example
from tests.pipelines import relative_error

cases = pytest.mark.parametrize("case", CASES)


def delta_of(made: Example) -> Delta:
    (delta,) = read_network(made.path).layers.values()
    return delta.fitted(tuple(made.layer.weight.shape))


def own(made: Example) -> Parameters:
    return {name: None if value is None else value.detach() for name, value in made.layer._parameters.items()}


def changes(made: Example) -> dict[str, Tensor]:
    """What the library has changed, without parameters that it left alone."""
    before = own(made)
    differences = {
        name: after - (torch.zeros_like(after) if before.get(name) is None else before[name])
        for name, after in made.merged.items()
    }
    return {name: value for name, value in differences.items() if value.any()}


@cases
def test_a_network_adds_what_its_library_merges(tmp_path: Path, case: str) -> None:
    made = example(case, tmp_path)
    found = delta_of(made).contribution(own(made), 1.0)
    assert found.keys() == changes(made).keys()
    for name, expected in changes(made).items():
        assert expected.abs().max() > 0.01
        assert found[name].shape == expected.shape
        assert relative_error(found[name], expected) < 1e-5


@cases
@pytest.mark.parametrize("strength", [-0.7, 0.0, 0.4, 1.5])
def test_what_is_added_follows_the_strength(tmp_path: Path, case: str, strength: float) -> None:
    made = example(case, tmp_path)
    delta = delta_of(made)
    whole, part = (delta.contribution(own(made), value) for value in (1.0, strength))
    for name in whole:
        torch.testing.assert_close(part[name], whole[name] * strength, rtol=1e-5, atol=1e-6)
