"""The contract every kind of delta fulfils, and a network as a set of deltas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

# A layer's parameters by name (`weight`, `bias`, ...); None for one that it could have and has not.
Parameters: TypeAlias = "Mapping[str, Tensor | None]"


class ShapeError(ValueError):
    """A delta for a weight of another shape; the message says what it is for and what the layer has."""


class Delta(ABC):
    """What a network changes in one layer.

    Attributes:
        kind: what its users call it, such as LoRA or LoKr.
    """

    kind: str

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes the delta holds as it is stored now."""

    @abstractmethod
    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        """Return what merging at `strength` adds to each of the layer's parameters that it changes, float32.

        Args:
            parameters: what the layer had before this network, float32.
            strength: the multiplier; any finite number.
        """

    def on(self, device: torch.device) -> Delta:
        """Return the same delta with all its tensors on `device`, in the types they have."""
        assert is_dataclass(self) and not isinstance(self, type)
        return replace(
            self, **{field.name: _moved(getattr(self, field.name), device) for field in fields(self)}
        )

    def is_same(self, other: Delta) -> bool:
        """Say whether the other is made of the very same tensors and values, as hosts give them anew."""
        if self is other:
            return True
        if type(self) is not type(other) or not is_dataclass(self):
            return False
        return all(_is_same(getattr(self, each.name), getattr(other, each.name)) for each in fields(self))

    def fitted(self, shape: tuple[int, ...]) -> Delta:
        """Return the same delta for a live layer whose weight has `shape`.

        Files write linear layers as 1 x 1 convolutions, the other way round, or kernels flat.

        Raises:
            ShapeError: it is for a weight of another shape.
        """
        return self


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(each, device) for each in value)
    return value.on(device) if isinstance(value, Delta) else value


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):  # a view of the same values
        return (one.data_ptr(), one.dtype, one.shape, one.stride(), one.device) == (
            other.data_ptr(),
            other.dtype,
            other.shape,
            other.stride(),
            other.device,
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, Delta):
        return one.is_same(other)
    return isinstance(one, (str, int, float)) and bool(one == other)


class Additive(Delta):
    """A delta of the weight alone that does not depend on the weight, dW, and is cheap to multiply with."""

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight that dW belongs to: (out, in) or (out, in, kernel height, kernel width)."""

    @property
    @abstractmethod
    def cost(self) -> int:
        """Multiplications of `add_to` for one position (token or pixel) of the output."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Return dW itself, float32, in the weight's shape."""

    @abstractmethod
    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Say whether the factors are on `device` in `dtype` now."""

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype) -> Additive:
        """Return the same delta on `device` in `dtype`; the very same object where nothing changes."""

    @abstractmethod
    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        """Add `factor * dW x` to `output` in place.

        Args:
            output: what `module` made of `x`, any number of leading rows; written.
            x: the input of `module`, of the delta's device and dtype.
            module: the layer; its stride, padding and dilation are used, its weight is not read.
            factor: any finite number, such as `(omega - 1) * strength`.
        """

    def pair(self) -> tuple[Tensor, Tensor, float] | None:
        """Return dW of a linear layer as scale * up @ down: down (rank, in), up (out, rank) and scale.

        None where `add_to` does it another way.
        """
        return None

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        return {"weight": self.dense().mul_(strength)}


class Transform(ABC):
    """The thin form of one delta on one layer: what becomes of the weak rows before the layer and after it.

    The layer's weight is W_ft, merged at strength `strong`; afterwards the rows are as if at `weak`.
    """

    # Whether the layer must read something else than its x.
    prepares = False

    def prepare(self, x: Tensor, strong: float, weak: float, module: nn.Module) -> Tensor:
        """Return what `module` reads instead of the weak rows' `x`."""
        return x

    @abstractmethod
    def finish(self, output: Tensor, x: Tensor, module: nn.Module, strong: float, weak: float) -> None:
        """Turn the layer's output for the weak rows into the weak layer's, in place.

        Args:
            output: what `module` made of what `prepare` returned.
            x: the weak rows' input as it was.
            module: the layer; its stride, padding, dilation and bias are used.
        """

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype) -> Transform:
        """Return the same with its factors on `device` in `dtype`."""


class Transforming(Delta):
    """A delta that depends on the weight below it, and whose effect can be undone and done again cheaply."""

    @property
    @abstractmethod
    def cost(self) -> int:
        """Multiplications for one position (token or pixel) of the output."""

    @abstractmethod
    def transform(self, module: nn.Module, parameters: Parameters, strength: float) -> Transform | None:
        """Return the thin form on a layer; None where undoing would divide by nearly nothing.

        Args:
            parameters: the layer's own, without any network.
            strength: the multiplier at which the network is merged.
        """


@dataclass(frozen=True, eq=False)
class ActiveNetwork:
    """A network as it takes part in one pass of one model (a U-Net or one text encoder).

    Attributes:
        name: what the user calls it.
        deltas: what it adds, by the live layer it adds it to.
        strength: the multiplier at which the host has it in the layers' weights; any finite number.
        weak_strength: the multiplier that the weak branch has it at whatever omega is, also one that is not
            in the weights at all (strength 0); None for omega times `strength`.
    """

    name: str
    deltas: Mapping[nn.Module, Delta]
    strength: float = 1.0
    weak_strength: float | None = None

    def weak_at(self, ratio: float) -> float:
        """Return the multiplier in the weak branch where its omega is `ratio`."""
        return ratio * self.strength if self.weak_strength is None else self.weak_strength

    @property
    def nbytes(self) -> int:
        """Bytes of all deltas together."""
        return sum(delta.nbytes for delta in self.deltas.values())
