"""Large tensors piece by piece: fresh memory for a copy of all costs more than the arithmetic on it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_NUMBERS = 1 << 18  # of a piece: it and what is made of it stay in a processor's cache


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield views that are the tensor along its first axis; those of one shape are cut alike."""
    if tensor.numel() <= _NUMBERS:
        yield tensor
        return
    rows = max(1, _NUMBERS * len(tensor) // tensor.numel())
    for start in range(0, len(tensor), rows):
        yield tensor[start : start + rows]
