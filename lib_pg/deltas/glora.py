"""GLoRA: a low-rank change of the weight, and one of what it is multiplied with (Chavan et al., 2023)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib_pg.deltas.base import Parameters, Transform, Transforming
from lib_pg.deltas.kind import FactorError, Headers, Kind, Numbers, Plan, Tensors, check_factor, check_rank
from lib_pg.deltas.last import Last
from lib_pg.deltas.low_rank import LowRank, check_pair, with_files_core
from lib_pg.deltas.shapes import misfit

# Undoing loses no more than this factor of precision.
_CONDITION_MAX = 20.0


@dataclass(frozen=True, eq=False)
class GLora(Transforming):
    """C = m (B + W A), A and B of low rank; A mixes the input's features, a convolution's in each pixel.

    Attributes:
        inner: A, a matrix (in, in).
        outer: B, as a LoRA.
    """

    inner: LowRank
    outer: LowRank

    kind = "GLoRA"

    @property
    def nbytes(self) -> int:
        return self.inner.nbytes + self.outer.nbytes

    @property
    def cost(self) -> int:
        return self.inner.cost + self.outer.cost

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        weight = parameters["weight"]
        assert weight is not None
        up, down = (factor.float().to(weight.device) for factor in (self.inner.up, self.inner.down))
        inner = torch.einsum("oi...,ir,rj->oj...", weight, up, down) * self.inner.scale
        outer = self.outer.dense().to(weight.device).view(weight.shape)
        return {"weight": (inner + outer) * strength}

    def fitted(self, shape: tuple[int, ...]) -> GLora:
        if len(shape) not in (2, 4) or self.inner.weight_shape != (shape[1], shape[1]):
            raise misfit(self.inner.weight_shape, shape)
        return dataclasses.replace(self, outer=self.outer.fitted(shape))

    def transform(self, module: nn.Module, parameters: Parameters, strength: float) -> Transform | None:
        small = _small(self.inner, strength)
        if not bool(torch.isfinite(small).all()) or torch.linalg.cond(small) > _CONDITION_MAX:
            return None
        return _GLoraTransform(self.inner, self.outer)


def _small(inner: LowRank, strength: float) -> Tensor:
    """Return 1 + m down up, (rank, rank): invertible where 1 + m A is (Woodbury)."""
    product = inner.down.float() @ inner.up.float()
    return torch.eye(inner.rank, device=product.device) + strength * inner.scale * product


class _GLoraTransform(Transform):
    """The layer reads x' with (1 + m A) x' = (1 + k A) x, and B (k x - m x') is added."""

    prepares = True

    def __init__(self, inner: LowRank, outer: LowRank) -> None:
        self._inner = inner
        self._outer = outer
        self._known: Last[tuple[Tensor, LowRank]] = Last()

    def prepare(self, x: Tensor, strong: float, weak: float, module: nn.Module) -> Tensor:
        up, _ = self._known.of(self._factors, strong, weak)
        down = self._inner.down
        if isinstance(module, nn.Conv2d):
            mixed = functional.conv2d(functional.conv2d(x, down[:, :, None, None]), up[:, :, None, None])
        else:
            mixed = functional.linear(functional.linear(x, down), up)
        return mixed.add_(x)

    def finish(self, output: Tensor, x: Tensor, module: nn.Module, strong: float, weak: float) -> None:
        self._known.of(self._factors, strong, weak)[1].add_to(output, x, module, 1.0)

    def to(self, device: torch.device, dtype: torch.dtype) -> _GLoraTransform:
        return _GLoraTransform(self._inner.to(device, dtype), self._outer.to(device, dtype))

    def _factors(self, strong: float, weak: float) -> tuple[Tensor, LowRank]:
        """Return P of x' = x + P (down x), and B (k - m (1 + P down)) as one product."""
        inner, outer = self._inner, self._outer
        up = torch.linalg.solve(_small(inner, strong), inner.up.float(), left=False)
        up = up * ((weak - strong) * inner.scale)
        through = torch.einsum("si...,ir,rj->sj...", outer.down.float(), up, inner.down.float())
        down = (weak - strong) * outer.down.float() - strong * through
        return up.to(inner.up.dtype), LowRank(down.to(outer.down.dtype), outer.up, outer.scale)


_PARTS = ("a1", "a2", "b1", "b2")


def _check(headers: Headers) -> Plan:
    for part in _PARTS:
        if part not in headers:
            raise FactorError(f"has no {part} factor")
        check_factor(part, headers[part], dimensions=(2, 4))
    if any(size != 1 for part in ("a1", "a2") for size in headers[part].shape[2:]):
        raise FactorError("its a1 and a2 have kernels, expected none")
    down, up, outer_down, outer_up = _names(headers)
    (rank, columns, *_), (rows, other, *_) = headers[down].shape, headers[up].shape
    check_rank(rank)
    if rank != other or rows != columns:
        raise FactorError(f"{up} {(rows, other)} does not fit {down} {(rank, columns)}")
    outer_plan = check_pair(headers, outer_down, outer_up, "bm")  # a core and its product with `down` count
    nbytes = headers[down].nbytes + headers[up].nbytes + outer_plan.nbytes

    def build(tensors: Tensors, numbers: Numbers) -> GLora:
        inner = LowRank(tensors[down].flatten(1), tensors[up].flatten(1), numbers.scale)
        outer = LowRank(tensors[outer_down], tensors[outer_up].flatten(1), numbers.scale)
        if "bm" in tensors:
            outer = with_files_core(outer, tensors["bm"], f"bm and {outer_down}")
        return GLora(inner, outer)

    return Plan(build, nbytes, scaled=True, rank=rank, inputs=columns)


def _names(headers: Headers) -> tuple[str, str, str, str]:
    """Return the parts that are (rank, in) and (in, rank) of A, (rank, in) and (out, rank) of B.

    LyCORIS once had their names the other way round. Where all four fit both ways, the rank is the smaller.
    """
    a1, a2, b1, b2 = (headers[part].shape for part in _PARTS)
    new = a1[1] == b1[1] == a2[0] == b2[0]
    old = a1[0] == b1[0] == a2[1] == b2[1]
    if new and not (old and a1[0] < a1[1]):
        return "a2", "a1", "b2", "b1"
    return "a1", "a2", "b1", "b2"


GLORA = Kind(
    "GLoRA",
    {**{part: rf"\.{part}\.weight" for part in _PARTS}, "bm": r"\.bm\.weight"},
    _check,
)
