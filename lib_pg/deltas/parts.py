"""Deltas on parts of one weight: hosts keep q, k and v of some models in a single layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Additive


@dataclass(frozen=True, eq=False)
class Part:
    """A delta of some rows or columns of a linear layer's weight (out, in).

    Attributes:
        delta: dW of that part alone.
        axis: 0 for rows (outputs), 1 for columns (inputs).
        start: index of the first one.
    """

    delta: Additive
    axis: int
    start: int

    @property
    def span(self) -> slice:
        return slice(self.start, self.start + self.delta.weight_shape[self.axis])


@dataclass(frozen=True, eq=False)
class Parts(Additive):
    """dW as the sum of deltas of parts of it; parts may overlap.

    Attributes:
        shape: (out, in) of the whole weight.
        parts: at least one.

    Raises:
        ValueError: a part that does not lie within the weight.
    """

    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            expected = list(self.shape)
            expected[part.axis] = part.delta.weight_shape[part.axis]
            if (
                len(expected) != 2
                or part.delta.weight_shape != tuple(expected)
                or not 0 <= part.start <= part.span.stop <= self.shape[part.axis]
            ):
                raise ValueError(
                    f"a delta of shape {part.delta.weight_shape} from {part.start} on along axis {part.axis} "
                    f"does not lie within a weight of shape {self.shape}"
                )

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def kind(self) -> str:  # type: ignore[override]
        return self.parts[0].delta.kind

    @property
    def nbytes(self) -> int:
        return sum(part.delta.nbytes for part in self.parts)

    @property
    def cost(self) -> int:
        return sum(part.delta.cost for part in self.parts)

    def dense(self) -> Tensor:
        total = torch.zeros(self.shape, device=self.parts[0].delta.dense().device)
        for part in self.parts:
            where = (part.span,) if part.axis == 0 else (slice(None), part.span)
            total[where] += part.delta.dense()
        return total

    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        return all(part.delta.is_on(device, dtype) for part in self.parts)

    def to(self, device: torch.device, dtype: torch.dtype) -> Parts:
        if self.is_on(device, dtype):
            return self
        moved = (Part(part.delta.to(device, dtype), part.axis, part.start) for part in self.parts)
        return Parts(self.shape, tuple(moved))

    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        for part in self.parts:
            if part.axis == 0:
                part.delta.add_to(output[..., part.span], x, module, factor)
            else:
                part.delta.add_to(output, x[..., part.span], module, factor)
