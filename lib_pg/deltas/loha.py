"""LoHa: the product entry by entry of two low-rank products (Hyeon-Woo et al., FedPara, 2022; LyCORIS)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Additive, Delta, Parameters
from lib_pg.deltas.kind import FactorError, Headers, Kind, Numbers, Plan, Tensors, check_factor, check_rank
from lib_pg.deltas.low_rank import LowRank
from lib_pg.deltas.shapes import is_flat, misfit


@dataclass(frozen=True, eq=False)
class LoHa(Additive):
    """dW = scale * (up1 @ down1) o (up2 @ down2), which is exactly one low-rank product of rank r1 r2.

    Its factors are the Khatri-Rao products: by rows of up1 and up2, by columns of down1 and down2.

    Attributes:
        up1, up2: (out, r1) and (out, r2).
        down1, down2: (r1, in) and (r2, in), a convolution's kernel side by side: (r1, in * height * width).
        scale: alpha / r1.
        shape: of the weight; None for (out, in).
    """

    up1: Tensor
    down1: Tensor
    up2: Tensor
    down2: Tensor
    scale: float = 1.0
    shape: tuple[int, ...] | None = None

    kind = "LoHa"

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.shape or (self.up1.shape[0], self.down1.shape[1])

    @property
    def nbytes(self) -> int:
        made = vars(self).get("_low_rank")
        return sum(factor.nbytes for factor in self._factors) + (0 if made is None else made.nbytes)

    @property
    def cost(self) -> int:
        rank = self.up1.shape[1] * self.up2.shape[1]
        return rank * (self.up1.shape[0] + self.down1.shape[1])

    def dense(self) -> Tensor:
        first, second = self.up1.float() @ self.down1.float(), self.up2.float() @ self.down2.float()
        return first.mul_(second).mul_(self.scale).view(self.weight_shape)

    def fitted(self, shape: tuple[int, ...]) -> LoHa:
        if not is_flat(self.up1.shape[0], self.down1.shape[1], shape):
            raise misfit(self.weight_shape, shape)
        return dataclasses.replace(self, shape=shape)

    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        return self.up1.device == device and self.up1.dtype == dtype

    def to(self, device: torch.device, dtype: torch.dtype) -> LoHa:
        if self.is_on(device, dtype):
            return self
        up1, down1, up2, down2 = (factor.to(device, dtype) for factor in self._factors)
        return LoHa(up1, down1, up2, down2, self.scale, self.shape)

    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        self._low_rank.add_to(output, x, module, factor)

    def pair(self) -> tuple[Tensor, Tensor, float] | None:
        return self._low_rank.pair()

    @property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.up1, self.down1, self.up2, self.down2

    @cached_property
    def _low_rank(self) -> LowRank:
        up1, down1, up2, down2 = (each.float() for each in self._factors)
        up = (up1[:, :, None] * up2[:, None, :]).flatten(1)
        down = (down1[:, None] * down2[None]).flatten(0, 1)
        down = down.view(-1, *self.weight_shape[1:])
        return LowRank(down.to(self.up1.dtype), up.to(self.up1.dtype), self.scale)


@dataclass(frozen=True, eq=False)
class TuckerLoHa(Delta):
    """LoHa on a convolution, each product with a Tucker core: sum over i, j of core[i, j] up[i] down[j].

    Attributes:
        cores: two of (rank, rank, kernel height, kernel width).
        ups: two of (rank, out).
        downs: two of (rank, in).
        scale: alpha / rank.
    """

    cores: tuple[Tensor, Tensor]
    ups: tuple[Tensor, Tensor]
    downs: tuple[Tensor, Tensor]
    scale: float = 1.0

    kind = "LoHa"

    @property
    def nbytes(self) -> int:
        return sum(factor.nbytes for factor in (*self.cores, *self.ups, *self.downs))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.ups[0].shape[1], self.downs[0].shape[1], *self.cores[0].shape[2:])

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        first, second = (
            torch.einsum("ijhw,io,jn->onhw", core.float(), up.float(), down.float())
            for core, up, down in zip(self.cores, self.ups, self.downs, strict=True)
        )
        return {"weight": first.mul_(second).mul_(self.scale * strength)}

    def fitted(self, shape: tuple[int, ...]) -> TuckerLoHa:
        if self.weight_shape != shape:
            raise misfit(self.weight_shape, shape)
        return self


_PAIRS = (("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b"))
_CORES = ("hada_t1", "hada_t2")


def _plan(headers: Headers) -> Plan:
    for up, down in _PAIRS:
        for part in (up, down):
            if part not in headers:
                raise FactorError(f"has no {part} factor")
            check_factor(part, headers[part], dimensions=(2,))
    for core in _CORES:
        if (core in headers) != (_CORES[0] in headers):
            raise FactorError(f"has one of {_CORES[0]} and {_CORES[1]}, expected both or none")
    nbytes = sum(headers[part].nbytes for part in HADA if part in headers)
    rank, inputs = headers["hada_w1_b"].shape
    if _CORES[0] in headers:
        _check_tucker(headers)
        return Plan(_build_tucker, nbytes, scaled=True, rank=rank, inputs=inputs)
    shapes = []
    for up, down in _PAIRS:
        (out, own), (other, columns) = headers[up].shape, headers[down].shape
        check_rank(other)
        if own != other:
            raise FactorError(
                f"{up} {(out, own)} does not fit {down} {(other, columns)}, expected {up} (out, {other})"
            )
        shapes.append((out, columns))
    if shapes[0] != shapes[1]:
        raise FactorError(f"its two products have the shapes {shapes[0]} and {shapes[1]}, expected the same")
    return Plan(_build, nbytes, scaled=True, rank=rank, inputs=inputs)


def _check_tucker(headers: Headers) -> None:
    rank, inputs = headers["hada_w1_b"].shape
    check_rank(rank)
    out = headers["hada_w1_a"].shape[1]
    for (up, down), core in zip(_PAIRS, _CORES, strict=True):
        check_factor(core, headers[core], dimensions=(4,))
        expected = {up: (rank, out), down: (rank, inputs), core: (rank, rank, *headers["hada_t1"].shape[2:])}
        for part, shape in expected.items():
            if headers[part].shape != shape:
                raise FactorError(f"its {part} has shape {headers[part].shape}, expected {shape}")


def _build(tensors: Tensors, numbers: Numbers) -> LoHa:
    up1, down1, up2, down2 = (tensors[part] for pair in _PAIRS for part in pair)
    return LoHa(up1, down1, up2, down2, numbers.scale)


def _build_tucker(tensors: Tensors, numbers: Numbers) -> TuckerLoHa:
    (up1, down1), (up2, down2) = ((tensors[up], tensors[down]) for up, down in _PAIRS)
    cores = (tensors[_CORES[0]], tensors[_CORES[1]])
    return TuckerLoHa(cores, (up1, up2), (down1, down2), numbers.scale)


HADA = {part: rf"\.{part}(?:\.[^.]+)?" for part in (*_PAIRS[0], *_PAIRS[1], *_CORES)}
LOHA = Kind("LoHa", HADA, _plan)
