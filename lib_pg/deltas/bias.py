"""What a network changes in a layer's bias, beside whatever it changes in the weight."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from lib_pg.deltas.base import Delta, Parameters
from lib_pg.deltas.kind import (
    FactorError,
    Headers,
    Modifier,
    Numbers,
    Plan,
    Tensors,
    check_vector,
    finite,
    only,
)
from lib_pg.deltas.shapes import misfit


@dataclass(frozen=True, eq=False)
class WithBias(Delta):
    """A delta of a layer's bias, and that of its weight where there is one.

    Attributes:
        bias: (out,), the difference from the old bias or the new one.
        weight: what else the network changes in the layer.
        replaces: whether `bias` is the new bias; a layer without one has zeros.
    """

    bias: Tensor
    weight: Delta | None = None
    replaces: bool = False

    @property
    def kind(self) -> str:  # type: ignore[override]
        return "bias" if self.weight is None else f"{self.weight.kind} with a bias"

    @property
    def nbytes(self) -> int:
        return self.bias.nbytes + (0 if self.weight is None else self.weight.nbytes)

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        added = {} if self.weight is None else self.weight.contribution(parameters, strength)
        change, old = self.bias.float(), parameters.get("bias")
        if self.replaces and old is not None:
            change = change.to(old.device) - old
        change = change * strength
        return {**added, "bias": added["bias"] + change if "bias" in added else change}

    def fitted(self, shape: tuple[int, ...]) -> WithBias:
        if len(self.bias) != shape[0]:
            raise misfit((len(self.bias),), shape)
        weight = None if self.weight is None else self.weight.fitted(shape)
        return dataclasses.replace(self, weight=weight)


_DIFFERENCES = ("diff_b", "b_norm", "lora_bias")


def _check(headers: Headers, below: Plan | None) -> None:
    check_vector(*only(headers))
    if "lora_bias" in headers and below is None:
        raise FactorError("has a bias of a LoRA, but no LoRA")


def _wrap(delta: Delta | None, tensors: Tensors, numbers: Numbers) -> WithBias:
    ((part, bias),) = tensors.items()
    # Of a LoRA it belongs to the up factor, and is scaled with it; the others are differences as they are.
    scale = numbers.scale if part == "lora_bias" else 1.0
    change = finite(f"product of {part} and scale", bias.flatten().float() * scale)
    return WithBias(change, delta, replaces=part not in _DIFFERENCES)


BIAS = Modifier(
    "bias",
    {
        "diff_b": r"\.diff_b",
        "set_bias": r"\.set_bias",
        "b_norm": r"\.b_norm",
        "lora_bias": r"\.lora_(?:B(?:\.[^.]+)?|up)\.bias",
    },
    _check,
    _wrap,
)
