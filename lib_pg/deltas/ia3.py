"""(IA)3: a learned vector scales what a layer reads or writes (Liu et al., 2022)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Parameters, ShapeError, Transform, Transforming
from lib_pg.deltas.kind import (
    FactorError,
    Headers,
    Kind,
    Numbers,
    Plan,
    Tensors,
    check_number,
    check_vector,
    finite,
)
from lib_pg.deltas.scaling import ScaledTransform, is_safe
from lib_pg.deltas.shapes import along, misfit


@dataclass(frozen=True, eq=False)
class IA3(Transforming):
    """W' = (1 + m v) W along one axis.

    Attributes:
        vector: v, (out,) or (in,).
        by_input: whether it scales inputs; None where only a layer's shape can tell.
        scales_bias: whether the bias is scaled with the outputs.
    """

    vector: Tensor
    by_input: bool | None
    scales_bias: bool = False

    kind = "(IA)3"

    @property
    def nbytes(self) -> int:
        return self.vector.nbytes

    @property
    def cost(self) -> int:
        return len(self.vector)

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        weight = parameters["weight"]
        assert weight is not None
        change = strength * self.vector.float().to(weight.device)
        added = {"weight": weight * along(change, weight.ndim, int(bool(self.by_input)))}
        bias = parameters.get("bias")
        if self.scales_bias and not self.by_input and bias is not None:
            added["bias"] = bias * change
        return added

    def fitted(self, shape: tuple[int, ...]) -> IA3:
        length = len(self.vector)
        if len(shape) < 2:
            raise misfit((length,), shape)
        fits = [axis for axis in (0, 1) if shape[axis] == length]
        if self.by_input is not None:
            fits = [axis for axis in fits if axis == int(self.by_input)]
        if not fits:
            raise misfit((length,), shape)
        if len(fits) == 2:
            raise ShapeError(f"its vector of {length} fits the inputs and the outputs of a layer of {shape}")
        return dataclasses.replace(self, by_input=fits == [1])

    def transform(self, module: nn.Module, parameters: Parameters, strength: float) -> Transform | None:
        change = self.vector.float()
        if not is_safe(change, strength):
            return None
        return _IA3Transform(change, bool(self.by_input), self.scales_bias)


class _IA3Transform(ScaledTransform):
    def rest(self, strong: float, weak: float) -> None:
        return None

    def to(self, device: torch.device, dtype: torch.dtype) -> _IA3Transform:
        return _IA3Transform(self.change.to(device), self.prepares, self.scales_bias)


def _check(headers: Headers) -> Plan:
    for part in ("ia3_weight", "on_input"):
        if part not in headers:
            raise FactorError(f"has no {part.removeprefix('ia3_')}")
    check_vector("weight", headers["ia3_weight"])
    check_number("on_input", headers["on_input"])
    return Plan(_build, headers["ia3_weight"].nbytes)


def _build(tensors: Tensors, numbers: Numbers) -> IA3:
    vector = finite("product of weight and scale", tensors["ia3_weight"].flatten() * numbers.scale)
    return IA3(vector, bool(tensors["on_input"].item()))


def _check_peft(headers: Headers) -> Plan:
    check_vector("ia3_l", headers["ia3_l"])
    return Plan(_build_peft, headers["ia3_l"].nbytes)


def _build_peft(tensors: Tensors, numbers: Numbers) -> IA3:
    """PEFT's vector is 1 + v: (1, in) of a feedforward layer, else (out, 1); a convolution's has one form."""
    vector = tensors["ia3_l"]
    by_input = bool(vector.shape[0] == 1) if vector.ndim == 2 else None
    change = finite("product of ia3_l and scale", (vector.float().flatten() - 1) * numbers.scale)
    return IA3(change, by_input, scales_bias=True)


LYCORIS_IA3 = Kind("(IA)3", {"on_input": r"\.on_input", "ia3_weight": r"\.weight"}, _check)
PEFT_IA3 = Kind("(IA)3", {"ia3_l": r"\.ia3_l(?:\.[^.]+)*"}, _check_peft)
