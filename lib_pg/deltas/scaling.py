"""Rows or columns of a weight scaled by a vector, undone and done again on the weak rows."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Transform
from lib_pg.deltas.last import Last
from lib_pg.deltas.low_rank import LowRank
from lib_pg.deltas.shapes import over_features

# What is divided by must not be nearer to zero: a merge's rounding would grow twentyfold.
_NEAR_ZERO = 0.05


def is_safe(change: Tensor, strength: float) -> bool:
    """Say whether scaling by 1 + strength * change can be undone without losing precision."""
    return bool((1 + strength * change).abs().min() >= _NEAR_ZERO)


class ScaledTransform(Transform):
    """W_j = W (1 + j change) along one axis, and whatever more `rest` is of W_k.

    Attributes:
        change: (out,) or (in,), float32.
        prepares: whether the axis is the inputs'.
        scales_bias: whether the bias is scaled with its row.
    """

    def __init__(self, change: Tensor, by_input: bool, scales_bias: bool = False) -> None:
        self.change = change
        self.prepares = by_input
        self.scales_bias = scales_bias
        self._known: Last[tuple[Tensor, LowRank | None]] = Last()

    def ratio(self, strong: float, weak: float) -> Tensor:
        """Return what the axis is scaled with on the weak rows."""
        return (1 + weak * self.change) / (1 + strong * self.change)

    @abstractmethod
    def rest(self, strong: float, weak: float) -> LowRank | None:
        """Return what else the weak weight has."""

    def prepare(self, x: Tensor, strong: float, weak: float, module: nn.Module) -> Tensor:
        ratio, _ = self._known.of(self._factors, strong, weak, x.dtype)
        return x * over_features(ratio, module)

    def finish(self, output: Tensor, x: Tensor, module: nn.Module, strong: float, weak: float) -> None:
        ratio, rest = self._known.of(self._factors, strong, weak, output.dtype)
        if not self.prepares:
            bias = module._parameters.get("bias")
            scale = over_features(ratio, module)
            if bias is None or self.scales_bias:
                output.mul_(scale)
            else:
                torch.addcmul(over_features(bias * (1 - ratio), module), output, scale, out=output)
        if rest is not None:
            rest.add_to(output, x, module, 1.0)

    def _factors(self, strong: float, weak: float, dtype: torch.dtype) -> tuple[Tensor, LowRank | None]:
        return self.ratio(strong, weak).to(dtype), self.rest(strong, weak)
