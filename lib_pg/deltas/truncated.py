"""A full fine-tune's difference, cut to a low rank: less memory than a second weight, and less exact."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Additive, Parameters
from lib_pg.deltas.low_rank import LowRank
from lib_pg.deltas.shapes import over_features

# Further columns that are looked at so that the wanted ones are exact (Halko et al., 2011, section 1.3).
_OVERSAMPLED = 8
_ITERATIONS = 4


@dataclass(frozen=True, eq=False)
class Truncated(Additive):
    """The leading part of dW, and all of the bias's difference.

    Attributes:
        weight: the difference of the weight.
        bias: that of the bias, (out,); None where it is the same.
    """

    weight: LowRank
    bias: Tensor | None = None

    kind = "full fine-tune of low rank"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.weight.weight_shape

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    @property
    def cost(self) -> int:
        return self.weight.cost

    def dense(self) -> Tensor:
        return self.weight.dense()

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        added = self.weight.contribution(parameters, strength)
        return added if self.bias is None else {**added, "bias": self.bias.float() * strength}

    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        return self.weight.is_on(device, dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> Truncated:
        if self.is_on(device, dtype):
            return self
        return Truncated(
            self.weight.to(device, dtype), None if self.bias is None else self.bias.to(device, dtype)
        )

    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        self.weight.add_to(output, x, module, factor)
        if self.bias is not None:
            output.add_(over_features(self.bias, module), alpha=factor)


def truncate(difference: Tensor, bias: Tensor | None, rank: int) -> tuple[Truncated, float]:
    """Return the nearest difference of a rank, and the squares that are lost.

    Args:
        difference: (out, in) or (out, in, kernel height, kernel width).
        rank: at least 1.
    """
    matrix = difference.float().flatten(1)
    count = min(rank + _OVERSAMPLED, *matrix.shape)
    with torch.random.fork_rng(devices=[]):  # the pictures' own noise must not depend on it
        torch.manual_seed(0)
        left, values, right = torch.svd_lowrank(matrix, q=count, niter=_ITERATIONS)
    up = (left * values)[:, :rank].contiguous()
    down = right[:, :rank].t().reshape(-1, *difference.shape[1:]).contiguous()
    lost = float((matrix - up @ down.flatten(1)).square().sum())
    return Truncated(LowRank(down, up), bias), lost
