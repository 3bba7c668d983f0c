"""Deltas on parts of one weight: where they lie, what they add, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lib_pg.deltas import ActiveNetwork, Delta, LowRank, Part, Parts
from lib_pg.weak_branch import WeakBranch

OUT, IN = 12, 10
OMEGA = 0.3
STRENGTH = -0.7


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def low_rank(rows: int, columns: int, seed: int = 0) -> LowRank:
    random = torch.Generator().manual_seed(seed)
    down, up = torch.randn(2, columns, generator=random), torch.randn(rows, 2, generator=random)
    return LowRank(down, up, 0.5)


def rows_part(start: int, count: int, seed: int = 0) -> Part:
    return Part(low_rank(count, IN, seed), 0, start)


def columns_part(start: int, count: int, seed: int = 0) -> Part:
    return Part(low_rank(OUT, count, seed), 1, start)


CASES = {
    "rows": (rows_part(3, 4),),
    "first rows": (rows_part(0, 4),),
    "last rows": (rows_part(8, 4),),
    "one row": (rows_part(5, 1),),
    "columns": (columns_part(2, 5),),
    "last columns": (columns_part(7, 3),),
    "all rows": (rows_part(0, OUT),),
    "q, k and v": (rows_part(0, 4, 1), rows_part(4, 4, 2), rows_part(8, 4, 3)),
    "rows that overlap": (rows_part(1, 6, 1), rows_part(4, 6, 2)),
    "rows and columns": (rows_part(1, 6, 1), columns_part(3, 4, 2)),
}
cases = pytest.mark.parametrize("parts", CASES.values(), ids=CASES)


def written(parts: tuple[Part, ...]) -> Tensor:
    """Write every part into a weight of zeros, entry by entry."""
    total = torch.zeros(OUT, IN)
    for part in parts:
        low = part.delta
        assert isinstance(low, LowRank)
        product = 0.5 * low.up @ low.down
        for row in range(product.shape[0]):
            for column in range(product.shape[1]):
                if part.axis == 0:
                    total[part.start + row, column] += product[row, column]
                else:
                    total[row, part.start + column] += product[row, column]
    return total


@cases
def test_the_dense_weight_has_each_part_in_its_place(parts: tuple[Part, ...]) -> None:
    torch.testing.assert_close(Parts((OUT, IN), parts).dense(), written(parts), rtol=1e-6, atol=1e-6)


@cases
@pytest.mark.parametrize("shape", [(4, IN), (4, 5, IN), (2, 3, 5, IN)], ids=["vectors", "tokens", "pixels"])
def test_adding_equals_a_merged_weight_and_leaves_the_rest_to_the_bit(
    parts: tuple[Part, ...], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(4)
    x, layer = torch.randn(shape), nn.Linear(IN, OUT)
    output, before = layer(x), layer(x)
    Parts((OUT, IN), parts).add_to(output, x, layer, -0.4)
    expected = functional.linear(x, layer.weight - 0.4 * written(parts), layer.bias)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    untouched = (written(parts) == 0).all(1)
    assert torch.equal(output[..., untouched], before[..., untouched])


@cases
def test_only_weak_rows_of_a_layer_are_changed(parts: tuple[Part, ...]) -> None:
    torch.manual_seed(4)
    x, layer = torch.randn(4, 5, IN), nn.Linear(IN, OUT)
    plain = layer(x)
    with WeakBranch([ActiveNetwork("n", {layer: Parts((OUT, IN), parts)}, STRENGTH)]) as branch:
        branch.set_rows([1, 2], 4)
        branch.set_ratios(OMEGA)
        output = layer(x)
    weight = layer.weight + (OMEGA - 1.0) * STRENGTH * written(parts)
    assert torch.equal(output[[0, 3]], plain[[0, 3]])
    expected = functional.linear(x[1:3], weight, layer.bias)
    torch.testing.assert_close(output[1:3], expected, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 1), st.data())
@settings(deadline=None, max_examples=60)
def test_any_part_within_the_weight_equals_its_dense_form(axis: int, data: st.DataObject) -> None:
    size = (OUT, IN)[axis]
    start = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - start))
    parts = Parts((OUT, IN), ((rows_part, columns_part)[axis](start, count),))
    x, output = torch.randn(3, IN), torch.zeros(3, OUT)
    parts.add_to(output, x, nn.Linear(IN, OUT), 1.0)
    torch.testing.assert_close(output, x @ parts.dense().T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ((OUT, IN), rows_part(9, 4)),
        ((OUT, IN), rows_part(-1, 4)),
        ((OUT, IN), columns_part(8, 3)),
        ((OUT, IN), Part(low_rank(4, IN - 1), 0, 0)),
        ((OUT, IN), Part(low_rank(OUT + 1, 3), 1, 0)),
        ((OUT, IN, 1, 1), rows_part(0, 4)),
    ],
    ids=["behind", "before", "columns behind", "too narrow", "too high", "convolution"],
)
def test_a_part_that_does_not_lie_within_the_weight_is_refused(shape: tuple[int, ...], part: Part) -> None:
    with pytest.raises(ValueError, match="does not lie within a weight of shape"):
        Parts(shape, (part,))


def test_one_wrong_part_among_others_is_refused_with_its_numbers() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 10\) from 9 on along axis 0 .* shape \(12, 10\)"):
        Parts((OUT, IN), (rows_part(0, 4), rows_part(9, 4)))


def test_bytes_are_those_of_all_parts() -> None:
    parts = (rows_part(0, 4), columns_part(2, 5))
    assert Parts((OUT, IN), parts).nbytes == 4 * (2 * IN + 4 * 2) + 4 * (2 * 5 + OUT * 2)


def test_parts_follow_a_layer_to_another_dtype_and_stay_themselves_where_nothing_changes() -> None:
    parts: Delta = Parts((OUT, IN), (rows_part(0, 4), columns_part(2, 5)))
    cpu = torch.device("cpu")
    assert parts.to(cpu, torch.float32) is parts
    moved = parts.to(cpu, torch.bfloat16)
    assert isinstance(moved, Parts)
    assert moved.is_on(cpu, torch.bfloat16) and not parts.is_on(cpu, torch.bfloat16)
    assert [(part.axis, part.start) for part in moved.parts] == [(0, 0), (1, 2)]
    torch.testing.assert_close(moved.dense(), parts.dense(), rtol=2e-2, atol=2e-2)


def test_one_part_elsewhere_is_enough_to_be_moved() -> None:
    cpu = torch.device("cpu")
    half = Part(low_rank(4, IN).to(cpu, torch.float16), 0, 4)
    assert not Parts((OUT, IN), (rows_part(0, 4), half)).is_on(cpu, torch.float32)
