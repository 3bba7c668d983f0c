"""The tensors of one layer, checked from the header alone, then loaded as a low-rank delta."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_pg.deltas import LowRank
from lib_pg.formats.container import TensorInfo
from lib_pg.formats.limits import ALPHA_MAX, FEATURES_MAX, KERNEL_MAX, RANK_MAX

BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
ALPHA_TYPES = frozenset({*BYTES, "I8", "I16", "I32", "I64", "U8"})


class FactorError(ValueError):
    """Tensors that make no low-rank delta: what was found and what was expected."""


@dataclass(frozen=True)
class Factors:
    """The tensors of one layer, none of them read yet.

    Attributes:
        down: (rank, in), or (rank, in, kernel height, kernel width).
        up: (out, rank), or (out, rank, 1, 1).
        mid: (rank, rank, kernel height, kernel width): a Tucker core, with `down` of kernel 1 x 1; or None.
        alpha: one number, or None.
    """

    down: TensorInfo
    up: TensorInfo
    mid: TensorInfo | None
    alpha: TensorInfo | None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes to load, and of the folded factor where there is a core."""
        infos = [self.down, self.up] if self.mid is None else [self.down, self.up, self.mid]
        folded = 0 if self.mid is None else self.down.shape[1] * math.prod(self.mid.shape[1:]) * 4
        return sum(math.prod(info.shape) * BYTES[info.dtype] for info in infos) + folded


def check_factors(parts: Mapping[str, TensorInfo]) -> Factors:
    """Return the parts of one layer once their shapes and types make sense together.

    Raises:
        FactorError: a part is missing, too large, of a wrong shape or of a wrong type.
    """
    for needed in ("down", "up"):
        if needed not in parts:
            raise FactorError(f"has no {needed} factor")
    factors = Factors(parts["down"], parts["up"], parts.get("mid"), parts.get("alpha"))
    for part, info in parts.items():
        if part == "alpha":
            _check_alpha(info)
        else:
            _check_factor(part, info)
    _check_together(factors)
    return factors


def load_factors(factors: Factors, load: Callable[[str], Tensor], default_scale: float) -> LowRank:
    """Read the tensors of one layer; the delta has the file's type, float32 where that is float64 or mixed.

    Args:
        factors: what `check_factors` returned.
        load: reads the tensor of a key.
        default_scale: the scale where the file has no alpha for the layer.

    Raises:
        FactorError: a value is not finite, or alpha is out of range.
    """
    scale = default_scale if factors.alpha is None else _alpha(load(factors.alpha.key)) / factors.rank
    down, up = _finite("down", load(factors.down.key)), _finite("up", load(factors.up.key)).flatten(1)
    dtype = torch.promote_types(down.dtype, up.dtype)
    if factors.mid is not None:
        folded = fold_core(_finite("mid", load(factors.mid.key)), down)
        down = _finite("product of mid and down", folded.to(dtype))
    return LowRank(down.to(dtype), up.to(dtype), scale)


def fold_core(mid: Tensor, down: Tensor) -> Tensor:
    """Return the Tucker core folded into the down factor, float32.

    Args:
        mid: (rank, rank, kernel height, kernel width).
        down: (rank, in) or (rank, in, 1, 1).
    """
    return torch.einsum("orhw,ri->oihw", mid.float(), down.float().flatten(1))


def _check_alpha(info: TensorInfo) -> None:
    if math.prod(info.shape) != 1 or info.dtype not in ALPHA_TYPES:
        raise FactorError(f"its alpha has shape {info.shape} and type {info.dtype}, expected one number")


def _check_factor(part: str, info: TensorInfo) -> None:
    if info.dtype not in BYTES:
        raise FactorError(f"its {part} factor has type {info.dtype}, expected F16, BF16, F32 or F64")
    if len(info.shape) not in (2, 4):
        raise FactorError(f"its {part} factor has shape {info.shape}, expected 2 or 4 dimensions")
    if 0 in info.shape:
        raise FactorError(f"its {part} factor is empty, shape {info.shape}, expected rank 1 to {RANK_MAX}")
    if max(info.shape[:2]) > FEATURES_MAX or max(info.shape[2:], default=1) > KERNEL_MAX:
        raise FactorError(
            f"its {part} factor has shape {info.shape}, expected at most {FEATURES_MAX} features "
            f"and a kernel of at most {KERNEL_MAX} x {KERNEL_MAX}"
        )


def _check_together(factors: Factors) -> None:
    rank, down, up = factors.rank, factors.down.shape, factors.up.shape
    if rank > RANK_MAX:
        raise FactorError(f"has rank {rank}, expected 1 to {RANK_MAX}")
    if up[1] != rank or any(size != 1 for size in up[2:]):
        raise FactorError(
            f"up {up} does not fit down {down}, expected up (out, {rank}) or (out, {rank}, 1, 1)"
        )
    if factors.mid is None:
        return
    mid = factors.mid.shape
    if len(mid) != 4 or mid[:2] != (rank, rank) or any(size != 1 for size in down[2:]):
        raise FactorError(
            f"mid {mid} does not fit down {down}, expected mid ({rank}, {rank}, kernel height, kernel width) "
            f"and down ({rank}, in) or ({rank}, in, 1, 1)"
        )


def _alpha(tensor: Tensor) -> float:
    alpha = float(tensor.item())
    if not abs(alpha) <= ALPHA_MAX:
        raise FactorError(f"has alpha {alpha:g}, expected -{ALPHA_MAX:g} to {ALPHA_MAX:g}")
    return alpha


def _finite(part: str, tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.float64:
        tensor = tensor.float()
    # Both ends are NaN if any value is: ten times faster than isfinite on all of them, and without a mask.
    ends = torch.stack(torch.aminmax(tensor.float()))
    if not bool(torch.isfinite(ends).all()):
        raise FactorError(f"its {part} factor holds values that are not finite (NaN or infinity)")
    return tensor
