"""Whole differences of a weight, and weights that take its place: a fine-tune of the layer itself."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from torch import Tensor

from lib_pg.deltas.base import Delta, Parameters
from lib_pg.deltas.kind import Headers, Kind, Numbers, Plan, Tensors, check_factor, check_vector, only
from lib_pg.deltas.shapes import is_same, misfit


@dataclass(frozen=True, eq=False)
class FullDifference(Delta):
    """dW itself, or the weight that is there instead.

    Attributes:
        value: in the weight's shape.
        replaces: whether `value` is the new weight rather than the difference from the old one.
        scale: what the difference is multiplied with.
        kind: what its users call it.
    """

    value: Tensor
    replaces: bool = False
    scale: float = 1.0
    kind: str = "full difference"

    @property
    def nbytes(self) -> int:
        return self.value.nbytes

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        value = self.value.float()
        if self.replaces:
            weight = parameters["weight"]
            assert weight is not None
            value = value.to(weight.device) - weight
        return {"weight": value * (self.scale * strength)}

    def fitted(self, shape: tuple[int, ...]) -> FullDifference:
        own = tuple(self.value.shape)
        if not is_same(own, shape):
            raise misfit(own, shape)
        return dataclasses.replace(self, value=self.value.reshape(shape))


def _check_weight(headers: Headers) -> Plan:
    part, header = only(headers)
    if len(header.shape) == 1:
        check_vector(part, header)
    else:
        check_factor(part, header, dimensions=(2, 4))
    inputs = math.prod(header.shape[1:]) if len(header.shape) > 1 else None
    return Plan(_build_weight, header.nbytes, inputs=inputs)


def _build_weight(tensors: Tensors, numbers: Numbers) -> FullDifference:
    replaces = "set_weight" in tensors
    value = tensors["set_weight"] if replaces else tensors["diff"]
    return FullDifference(value, replaces, numbers.scale)


def _check_norm(headers: Headers) -> Plan:
    check_vector("w_norm", headers["w_norm"])
    return Plan(_build_norm, headers["w_norm"].nbytes)


def _build_norm(tensors: Tensors, numbers: Numbers) -> FullDifference:
    return FullDifference(tensors["w_norm"].flatten(), scale=numbers.scale, kind="norm")


FULL = Kind("full difference", {"diff": r"\.diff", "set_weight": r"\.set_weight"}, _check_weight)
NORM = Kind("norm", {"w_norm": r"\.w_norm"}, _check_norm)
