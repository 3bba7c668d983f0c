"""Rows of a batch: which of them are weak, and the same ones in whatever a model is called with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

Span: TypeAlias = "tuple[int, int]"


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
    strong: tuple[Span, ...] = field(default=((0, 1),))

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

    def fold(self, module: nn.Module, rows: int) -> int:
        """Return how many rows of a layer's call belong to each of the model's, side by side.

        Raises:
            RuntimeError: they are no multiple, so that the weak ones cannot be told.
        """
        fold, rest = divmod(rows, self.total)
        if rest:
            raise RuntimeError(
                f"a {type(module).__name__} layer was called with {rows} rows, which is no "
                f"multiple of the {self.total} rows of the model's batch; its weak rows cannot be told"
            )
        return fold


def take_rows(value: Any, rows: slice, total: int) -> Any:
    """Return `value` with those rows of every tensor in it that belongs to a batch of `total` rows."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == total else value
    if isinstance(value, dict):
        return {key: take_rows(item, rows, total) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(take_rows(item, rows, total) for item in value)
    return value


def _spans(rows: Sequence[int]) -> list[Span]:
    """Join neighbours: [0, 1, 2, 5] becomes [(0, 3), (5, 6)], so that each span is one view."""
    spans: list[Span] = []
    for row in rows:
        if spans and spans[-1][1] == row:
            spans[-1] = (spans[-1][0], row + 1)
        else:
            spans.append((row, row + 1))
    return spans
