"""DoRA: a learned length for every row or column of the weight (Liu et al., 2024), over any other kind."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Delta, Parameters, Transform, Transforming
from lib_pg.deltas.kind import FactorError, Headers, Modifier, Numbers, Plan, Tensors, check_vector, only
from lib_pg.deltas.low_rank import LowRank
from lib_pg.deltas.scaling import ScaledTransform, is_safe
from lib_pg.deltas.shapes import along, misfit


@dataclass(frozen=True, eq=False)
class Dora(Transforming):
    """W' = magnitude (W + dW) / |W + dW|; at strength m a difference m (W' - W).

    Attributes:
        magnitude: one length a row, (out,), or one a column, (in,).
        direction: dW.
        by_input: whether lengths are of columns, over outputs and kernel.
    """

    magnitude: Tensor
    direction: Delta
    by_input: bool = False

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "DoRA" if isinstance(self.direction, LowRank) else f"{self.direction.kind} with DoRA"

    @property
    def nbytes(self) -> int:
        return self.magnitude.nbytes + self.direction.nbytes

    @property
    def cost(self) -> int:
        cost = self.direction.cost if isinstance(self.direction, LowRank) else 0
        return cost + 2 * len(self.magnitude)

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        weight = parameters["weight"]
        assert weight is not None
        moved = weight + self._difference(parameters)
        scale = along(self._ratio(moved), weight.ndim, int(self.by_input))
        return {"weight": (moved * scale - weight) * strength}

    def fitted(self, shape: tuple[int, ...]) -> Dora:
        length = shape[1] if self.by_input and len(shape) > 1 else shape[0]
        if len(shape) < 2 or len(self.magnitude) != length:
            raise misfit((len(self.magnitude),), shape)
        return dataclasses.replace(self, direction=self.direction.fitted(shape))

    def transform(self, module: nn.Module, parameters: Parameters, strength: float) -> Transform | None:
        weight = parameters["weight"]
        assert weight is not None
        if not isinstance(self.direction, LowRank):
            return None
        ratio = self._ratio(weight.float() + self._difference(parameters))
        if not is_safe(ratio - 1, strength):
            return None
        return _DoraTransform(ratio - 1, self.by_input, self.direction)

    def _difference(self, parameters: Parameters) -> Tensor:
        weight = parameters["weight"]
        assert weight is not None
        return self.direction.contribution(parameters, 1.0)["weight"].to(weight.device)

    def _ratio(self, moved: Tensor) -> Tensor:
        """Return magnitude / length for each row or column of W + dW."""
        axes = [axis for axis in range(moved.ndim) if axis != int(self.by_input)]
        lengths: Tensor = torch.linalg.vector_norm(moved.float(), dim=axes)
        return self.magnitude.float().to(moved.device) / lengths.clamp_min(torch.finfo(torch.float32).tiny)


class _DoraTransform(ScaledTransform):
    """W_j = W e_j + j d dW, with e_j = 1 + j (d - 1) along the same axis.

    So W_k = W_m e_k / e_m + c dW along the axis, with c = (k - m e_k / e_m) d: one more low-rank product.
    """

    def __init__(self, change: Tensor, by_input: bool, direction: LowRank) -> None:
        super().__init__(change, by_input)
        self._direction = direction

    def to(self, device: torch.device, dtype: torch.dtype) -> _DoraTransform:
        return _DoraTransform(self.change.to(device), self.prepares, self._direction.to(device, dtype))

    def rest(self, strong: float, weak: float) -> LowRank:
        scale = (weak - strong * self.ratio(strong, weak)) * (1 + self.change)
        low = self._direction
        if self.prepares:
            down = low.down.float() * along(scale, low.down.ndim, 1)
            return LowRank(down.to(low.down.dtype), low.up, low.scale)
        return LowRank(low.down, (low.up.float() * scale[:, None]).to(low.up.dtype), low.scale)


def _check(headers: Headers, below: Plan | None) -> None:
    check_vector(*only(headers))
    if below is None:
        raise FactorError("has lengths of a DoRA, but no other factors")


def _wrap(delta: Delta | None, tensors: Tensors, numbers: Numbers) -> Dora:
    ((part, magnitude),) = tensors.items()
    assert delta is not None
    # PEFT's are lengths of rows, in whatever shape; LyCORIS tells it by the shape: (out, 1) or (1, in).
    by_input = part == "dora_scale" and magnitude.ndim > 1 and magnitude.shape[0] == 1
    return Dora(magnitude.flatten(), delta, by_input)


DORA = Modifier(
    "DoRA",
    {"dora_scale": r"\.dora_scale", "magnitude": r"\.lora_magnitude_vector(?:\.[^.]+)*"},
    _check,
    _wrap,
)
