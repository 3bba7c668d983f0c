"""Rows of a batch: which of them are weak, and the same ones in whatever a model is called with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

Span: TypeAlias = "tuple[int, int]"


class Share(NamedTuple):
    """Rows of one call of a layer, as slices of what it is called with, in rising order."""

    weak: tuple[slice, ...]
    strong: tuple[slice, ...]


class Vectors(NamedTuple):
    """Neighbouring rows of a contiguous batch as one matrix, and how many values are before it."""

    size: tuple[int, int]
    stride: tuple[int, int]
    first: int

    @classmethod
    def at(cls, rows: slice, batch: Tensor) -> Vectors:
        of_row, width = batch.numel() // len(batch), batch.shape[-1]
        size = ((rows.stop - rows.start) * of_row // width, width)
        return cls(size, (width, 1), rows.start * of_row)

    def of(self, batch: Tensor) -> Tensor:
        """Return a view in one operation: on a small layer each costs as much as a product."""
        return batch.as_strided(self.size, self.stride, batch.storage_offset() + self.first)


@dataclass(frozen=True)
class Rows:
    """The rows of a model's batch.

    Attributes:
        total: rows the model is called with.
        weak: neighbouring weak rows, as (first, one after the last), in rising order.
        strong: the others, likewise.
    """

    total: int = 1
    weak: tuple[Span, ...] = ()
    strong: tuple[Span, ...] = ((0, 1),)
    _shares: dict[int, Share] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, weak: Iterable[int], total: int) -> Rows:
        """Return the rows of a batch.

        Args:
            weak: indices in [0, total), in any order; empty for none.
            total: rows the model is called with, at least 1.
        """
        rows = sorted(set(weak))
        if rows and not (rows[0] >= 0 and rows[-1] < total):
            raise ValueError(f"weak rows {rows} are out of range: expected indices in [0, {total})")
        others = sorted(set(range(total)) - set(rows))
        return cls(total, tuple(_spans(rows)), tuple(_spans(others)))

    def share(self, rows: int) -> Share | None:
        """Return the rows of a layer's call that has `rows`: each of the model's as often, side by side.

        None where they are no multiple of the model's, so that they are only a part of them.
        """
        fold, rest = divmod(rows, self.total)
        if rest:
            return None
        share = self._shares.get(fold)
        if share is None:
            share = self._shares[fold] = self.part((0, rows), fold)
        return share

    def part(self, span: Span, fold: int) -> Share:
        """Return the rows of a call that has only those of `span`, where each of the model's has `fold`."""
        return Share(_within(self.weak, span, fold), _within(self.strong, span, fold))


def take_rows(value: Any, rows: slice, total: int) -> Any:
    """Return `value` with those rows of every tensor in it that belongs to a batch of `total` rows."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == total else value
    if isinstance(value, dict):
        return {key: take_rows(item, rows, total) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(take_rows(item, rows, total) for item in value)
    return value


def _within(spans: Sequence[Span], part: Span, fold: int) -> tuple[slice, ...]:
    """Return what of some rows lies in a part of them, counted from its beginning."""
    first, last = part
    cut = ((max(a * fold, first) - first, min(b * fold, last) - first) for a, b in spans)
    return tuple(slice(start, stop) for start, stop in cut if start < stop)


def _spans(rows: Sequence[int]) -> list[Span]:
    """Join neighbours: [0, 1, 2, 5] becomes [(0, 3), (5, 6)], so that each span is one view."""
    spans: list[Span] = []
    for row in rows:
        if spans and spans[-1][1] == row:
            spans[-1] = (spans[-1][0], row + 1)
        else:
            spans.append((row, row + 1))
    return spans
