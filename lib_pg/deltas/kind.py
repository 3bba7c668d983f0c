"""What each file in this folder says of its kind, so that network files can be read.

A kind names its tensors by the end of their names in files, checks their shapes before any of them is read,
and builds its delta from them. `lib_pg/formats/kinds.py` lists all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from lib_pg.deltas.base import Delta
from lib_pg.deltas.limits import FEATURES_MAX, KERNEL_MAX, NUMBER_MAX, RANK_MAX
from lib_pg.deltas.pieces import pieces

BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
# Read as float16, which holds every value of both.
FLOAT8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
_BYTES_READ = {**BYTES, **dict.fromkeys(FLOAT8, 2)}
NUMBER_TYPES = frozenset({*_BYTES_READ, "I8", "I16", "I32", "I64", "U8"})


class FactorError(ValueError):
    """Tensors of one layer that make no delta: what was found and what was expected."""


@dataclass(frozen=True)
class Header:
    """What a file's header says of one tensor; `dtype` as safetensors spells it, such as 'F16'."""

    key: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _BYTES_READ.get(self.dtype, 8)


# What a layer has, by part.
Headers: TypeAlias = "Mapping[str, Header]"
Tensors: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class Numbers:
    """The numbers of one layer.

    Attributes:
        scale: what the kind's change is multiplied with: alpha / rank where that scales it, times a learned
            scalar.
        alpha: the file's own; None where it has none.
    """

    scale: float = 1.0
    alpha: float | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """One layer's delta, checked from the headers alone.

    Attributes:
        build: makes the delta of the kind's tensors, all of one type and finite.
        nbytes: bytes that these take, and whatever `build` makes of them.
        scaled: whether alpha / rank scales it.
        rank: what alpha is divided by; None where no factor has one.
        inputs: features that the layer reads, where the shapes tell.
    """

    build: Callable[[Tensors, Numbers], Delta]
    nbytes: int
    scaled: bool = False
    rank: int | None = None
    inputs: int | None = None


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of network.

    Attributes:
        name: what its users call it.
        parts: the end of a tensor's name, a regular expression, by part.
        plan: checks a layer's tensors; raises FactorError.
    """

    name: str
    parts: Mapping[str, str]
    plan: Callable[[Headers], Plan]


@dataclass(frozen=True, eq=False)
class Modifier:
    """What lies over a kind in the same layer.

    Attributes:
        name: what its users call it.
        parts: as for `Kind`.
        check: checks its tensors, which may be without a kind below them; raises FactorError.
        wrap: returns a delta with its tensors over it, None where the layer has no other.
    """

    name: str
    parts: Mapping[str, str]
    check: Callable[[Headers, Plan | None], None]
    wrap: Callable[[Delta | None, Tensors, Numbers], Delta]


def check_factor(part: str, header: Header, dimensions: tuple[int, ...]) -> None:
    """Check one factor's type and bounds.

    Args:
        dimensions: how many it may have; from the third on they are a kernel's.

    Raises:
        FactorError: it has another type, is empty or too large.
    """
    check_type(f"{part} factor", header)
    shape = header.shape
    if len(shape) not in dimensions:
        allowed = " or ".join(map(str, dimensions))
        raise FactorError(f"its {part} factor has shape {shape}, expected {allowed} dimensions")
    if 0 in shape:
        raise FactorError(f"its {part} factor is empty, shape {shape}, expected rank 1 to {RANK_MAX}")
    if max(shape[:2]) > FEATURES_MAX or max(shape[2:], default=1) > KERNEL_MAX:
        raise FactorError(
            f"its {part} factor has shape {shape}, expected at most {FEATURES_MAX} features "
            f"and a kernel of at most {KERNEL_MAX} x {KERNEL_MAX}"
        )


def check_rank(rank: int) -> None:
    """Raise FactorError for a rank out of range."""
    if rank > RANK_MAX:
        raise FactorError(f"has rank {rank}, expected 1 to {RANK_MAX}")


def only(headers: Headers) -> tuple[str, Header]:
    """Return the one part that is there and its header; raises FactorError where there are more."""
    if len(headers) > 1:
        raise FactorError(f"has {' and '.join(sorted(headers))}, expected one of them")
    ((part, header),) = headers.items()
    return part, header


def check_vector(part: str, header: Header) -> int:
    """Return the length of a vector, which may have dimensions of size 1 around it.

    Raises:
        FactorError: it is no vector, has another type, is empty or too long.
    """
    check_type(part, header)
    length = math.prod(header.shape)
    if not header.shape or max(header.shape) != length or not 1 <= length <= FEATURES_MAX:
        raise FactorError(
            f"its {part} has shape {header.shape}, expected one vector of 1 to {FEATURES_MAX} features"
        )
    return length


def check_type(label: str, header: Header) -> None:
    """Raise FactorError for a type that no trainer writes weights in."""
    if header.dtype not in _BYTES_READ:
        *first, last = _BYTES_READ
        raise FactorError(f"its {label} has type {header.dtype}, expected {', '.join(first)} or {last}")


def check_number(part: str, header: Header) -> None:
    """Raise FactorError for what is not one number."""
    if math.prod(header.shape) != 1 or header.dtype not in NUMBER_TYPES:
        raise FactorError(f"its {part} has shape {header.shape} and type {header.dtype}, expected one number")


def number_of(part: str, tensor: Tensor) -> float:
    """Return a checked number's value; raises FactorError out of range."""
    value = float(tensor.double().item())
    if not abs(value) <= NUMBER_MAX:
        raise FactorError(f"has {part} {value:g}, expected -{NUMBER_MAX:g} to {NUMBER_MAX:g}")
    return value


def finite(label: str, tensor: Tensor) -> Tensor:
    """Return a tensor, float32 where it was float64 and float16 where it was float8.

    Raises:
        FactorError: a value is not finite.
    """
    if tensor.dtype == torch.float64:
        tensor = tensor.float()
    elif tensor.dtype in FLOAT8.values():
        tensor = tensor.half()
    if not all(bool(torch.isfinite(_ends(piece)).all()) for piece in pieces(tensor)):
        raise FactorError(f"its {label} holds values that are not finite (NaN or infinity)")
    return tensor


def _ends(tensor: Tensor) -> Tensor:
    """Return the least and the greatest value, both NaN if any is: ten times faster than asking each."""
    try:
        return torch.stack(torch.aminmax(tensor))
    except RuntimeError:  # the first versions of torch 2 cannot in half precision on a CPU
        return torch.stack(torch.aminmax(tensor.float()))
