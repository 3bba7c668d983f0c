"""Shapes of weights: which of them are the same in another spelling, and vectors along them."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lib_pg.deltas.base import ShapeError


def misfit(own: tuple[int, ...], shape: tuple[int, ...]) -> ShapeError:
    """Return the error for a delta of shape `own` and a layer whose weight has `shape`."""
    return ShapeError(f"its shape is {own}, the model's layer has {shape}")


def is_same(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Say whether two shapes differ at most by a kernel of 1 x 1: (out, in) and (out, in, 1, 1)."""
    return _without_kernel_of_one(own) == _without_kernel_of_one(shape)


def is_flat(rows: int, columns: int, shape: tuple[int, ...]) -> bool:
    """Say whether (rows, columns) is a weight of `shape`, an input's kernel side by side in the columns."""
    return len(shape) in (2, 4) and (rows, columns) == (shape[0], math.prod(shape[1:]))


def along(values: Tensor, ndim: int, axis: int) -> Tensor:
    """Return a vector that broadcasts along one axis of a weight with `ndim` of them."""
    return values.view([-1 if each == axis else 1 for each in range(ndim)])


def over_features(values: Tensor, module: nn.Module) -> Tensor:
    """Return a vector that broadcasts over what a layer reads or writes: a picture's channels come second."""
    return values[:, None, None] if isinstance(module, nn.Conv2d) else values


def _without_kernel_of_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape
