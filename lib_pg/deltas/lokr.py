"""LoKr: the Kronecker product of a small matrix and a larger factor (Yeh et al., LyCORIS, 2024)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib_pg.deltas.base import Additive
from lib_pg.deltas.kind import (
    FactorError,
    Headers,
    Kind,
    Numbers,
    Plan,
    Tensors,
    check_factor,
    check_rank,
)
from lib_pg.deltas.limits import FEATURES_MAX
from lib_pg.deltas.low_rank import LowRank, with_files_core
from lib_pg.deltas.shapes import misfit


@dataclass(frozen=True, eq=False)
class LoKr(Additive):
    """dW = scale * w1 (x) w2: block (i, j) of the weight is w1[i, j] * w2.

    The product is never formed to multiply with it: x of (c d) features is read as a matrix (c, d), which is
    multiplied with w2 from the right and with w1 from the left.

    Attributes:
        w1: (a, c), or its factors.
        w2: (b, d) or (b, d, kernel height, kernel width), or its factors. The kernel may lie side by side in
            the columns, (b, d * height * width), until `fitted` gives the weight's shape.
        scale: alpha / rank; 1 where neither has factors.
    """

    w1: Tensor | LowRank
    w2: Tensor | LowRank
    scale: float = 1.0

    kind = "LoKr"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        (a, c), (b, d, *kernel) = _shape(self.w1), _shape(self.w2)
        return (a * b, c * d, *kernel)

    @property
    def nbytes(self) -> int:
        made = vars(self).get("_small") if isinstance(self.w1, LowRank) else None
        return self.w1.nbytes + self.w2.nbytes + (0 if made is None else made.nbytes)

    @property
    def cost(self) -> int:
        (a, c), b = _shape(self.w1), _shape(self.w2)[0]
        return c * (self.w2.cost if isinstance(self.w2, LowRank) else self.w2.numel()) + a * c * b

    def dense(self) -> Tensor:
        w1, w2 = _dense(self.w1), _dense(self.w2)
        return torch.kron(w1.view(*w1.shape, *[1] * (w2.ndim - 2)), w2.contiguous()).mul_(self.scale)

    def fitted(self, shape: tuple[int, ...]) -> LoKr:
        (a, c), (b, *rest) = _shape(self.w1), _shape(self.w2)
        if len(shape) not in (2, 4) or a * b != shape[0] or shape[1] % c:
            raise misfit(self.weight_shape, shape)
        wanted = (shape[1] // c, *shape[2:])
        if math.prod(rest) != math.prod(wanted) or (len(rest) > 1 and rest[0] != wanted[0]):
            raise misfit(self.weight_shape, shape)
        if len(rest) == len(wanted) == 3 and tuple(rest) != wanted:
            raise misfit(self.weight_shape, shape)
        w2 = self.w2
        if isinstance(w2, LowRank):
            return dataclasses.replace(self, w2=dataclasses.replace(w2, down=w2.down.reshape(-1, *wanted)))
        return dataclasses.replace(self, w2=w2.reshape(b, *wanted))

    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        return all(_is_on(factor, device, dtype) for factor in (self.w1, self.w2))

    def to(self, device: torch.device, dtype: torch.dtype) -> LoKr:
        if self.is_on(device, dtype):
            return self
        return LoKr(self.w1.to(device, dtype), self.w2.to(device, dtype), self.scale)

    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        if isinstance(module, nn.Conv2d):
            self._add_to_conv(output, x, module, factor * self.scale * _scale(self.w2))
        else:
            self._add_to_linear(output, x, factor * self.scale * _scale(self.w2))

    def _add_to_linear(self, output: Tensor, x: Tensor, factor: float) -> None:
        a, c = self._small.shape
        grouped = x.reshape(-1, c, x.shape[-1] // c)
        for matrix in _steps(self.w2):
            grouped = functional.linear(grouped, matrix)
        crossed = functional.linear(grouped.transpose(1, 2), self._small).transpose(1, 2)
        output.view(-1, a, crossed.shape[2]).add_(crossed, alpha=factor)

    def _add_to_conv(self, output: Tensor, x: Tensor, module: nn.Conv2d, factor: float) -> None:
        c = self._small.shape[1]
        count = x.shape[0]
        grouped = x.reshape(count * c, x.shape[1] // c, *x.shape[2:])
        first, *others = _steps(self.w2)
        # The module's own method, for hosts that switch a live layer to circular padding (seamless tiles).
        grouped = module._conv_forward(grouped, first, None)
        for matrix in others:
            grouped = functional.conv2d(grouped, matrix[:, :, None, None])
        crossed = torch.matmul(self._small, grouped.reshape(count, c, -1))
        output.add_(crossed.view(count, output.shape[1], *output.shape[2:]), alpha=factor)

    @cached_property
    def _small(self) -> Tensor:
        """w1 itself: it is the smaller factor, so its product takes less than its two parts."""
        return self.w1.dense().to(self.w1.up.dtype) if isinstance(self.w1, LowRank) else self.w1


def _shape(factor: Tensor | LowRank) -> tuple[int, ...]:
    return factor.weight_shape if isinstance(factor, LowRank) else tuple(factor.shape)


def _dense(factor: Tensor | LowRank) -> Tensor:
    return factor.dense() if isinstance(factor, LowRank) else factor.float()


def _scale(factor: Tensor | LowRank) -> float:
    return factor.scale if isinstance(factor, LowRank) else 1.0


def _steps(factor: Tensor | LowRank) -> tuple[Tensor, ...]:
    return (factor.down, factor.up) if isinstance(factor, LowRank) else (factor,)


def _is_on(factor: Tensor | LowRank, device: torch.device, dtype: torch.dtype) -> bool:
    if isinstance(factor, LowRank):
        return factor.is_on(device, dtype)
    return factor.device == device and factor.dtype == dtype


def _plan(headers: Headers) -> Plan:
    if "lokr_t1" in headers:
        raise FactorError(
            "has a lokr_t1, which no known trainer writes; expected a core for w2 alone, lokr_t2"
        )
    parts = [part for part in KRON if part in headers]
    for part in parts:
        wide = part in ("lokr_w2", "lokr_w2_b", "lokr_t2")
        check_factor(part, headers[part], dimensions=(2, 4) if wide else (2,))
    (a, c), first_rank = _check_side(headers, "lokr_w1")
    (b, *rest), second_rank = _check_side(headers, "lokr_w2")
    if a * b > FEATURES_MAX or c * math.prod(rest) > FEATURES_MAX:
        raise FactorError(
            f"its factors {(a, c)} and {(b, *rest)} stand for a weight of {a * b} x {c * math.prod(rest)}, "
            f"expected at most {FEATURES_MAX} features"
        )
    nbytes = sum(headers[part].nbytes for part in parts)
    if "lokr_t2" in headers:
        nbytes += 4 * math.prod(headers["lokr_t2"].shape[1:]) * rest[0]
    # Without factors alpha is what the trainer divided by a rank that is nowhere in the layer.
    return Plan(_build, nbytes, scaled=True, rank=second_rank or first_rank, inputs=c * math.prod(rest))


def _check_side(headers: Headers, side: str) -> tuple[tuple[int, ...], int | None]:
    """Return the shape and the rank of w1 or w2; a rank of None where it has no factors."""
    up, down = f"{side}_a", f"{side}_b"
    given = [part for part in (side, up, down) if part in headers]
    if given == [side]:
        if side == "lokr_w2" and "lokr_t2" in headers:
            raise FactorError("has a lokr_t2 but no lokr_w2_a and lokr_w2_b for it")
        return headers[side].shape, None
    if given != [up, down]:
        raise FactorError(f"has {' and '.join(given) or 'no ' + side}, expected {side}, or {up} and {down}")
    first, second = headers[up].shape, headers[down].shape
    rank = second[0]
    check_rank(rank)
    if side == "lokr_w2" and "lokr_t2" in headers:
        core = headers["lokr_t2"].shape
        if len(core) != 4 or core[:2] != (rank, rank) or first[0] != rank or len(second) != 2:
            raise FactorError(
                f"lokr_t2 {core} does not fit {up} {first} and {down} {second}, "
                f"expected ({rank}, {rank}, kernel height, kernel width)"
            )
        return (first[1], second[1], *core[2:]), rank
    if first[1] != rank:
        raise FactorError(f"{up} {first} does not fit {down} {second}, expected {up} (.., {rank})")
    return (first[0], *second[1:]), rank


def _build(tensors: Tensors, numbers: Numbers) -> LoKr:
    return LoKr(_side(tensors, "lokr_w1"), _side(tensors, "lokr_w2"), numbers.scale)


def _side(tensors: Tensors, side: str) -> Tensor | LowRank:
    if side in tensors:
        return tensors[side]
    up, down = tensors[f"{side}_a"], tensors[f"{side}_b"]
    if side == "lokr_w2" and "lokr_t2" in tensors:
        return with_files_core(
            LowRank(down, up.t().contiguous()), tensors["lokr_t2"], "lokr_t2 and lokr_w2_b"
        )
    return LowRank(down, up)


KRON = {
    part: rf"\.{part}(?:\.[^.]+)?"
    for part in (
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t1",
        "lokr_t2",
    )
}
LOKR = Kind("LoKr", KRON, _plan)
