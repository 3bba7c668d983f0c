"""The tensors of one layer: its kind, checked from the header alone, then loaded as a delta."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from lib_pg.deltas import Delta
from lib_pg.deltas.kind import (
    FactorError,
    Header,
    Headers,
    Kind,
    Modifier,
    Numbers,
    Plan,
    check_number,
    finite,
    number_of,
)
from lib_pg.formats.kinds import KINDS, MODIFIERS, NUMBERS


@dataclass(frozen=True, eq=False)
class Checked:
    """One layer whose shapes and types make sense together; no tensor has been read.

    Attributes:
        headers: all its tensors by part.
        kind: None where it has what lies over a kind alone, such as a bias.
        plan: what `kind` makes of its tensors.
        modifiers: what lies over it, from the inside out.
    """

    headers: Headers
    kind: Kind | None
    plan: Plan | None
    modifiers: tuple[Modifier, ...]

    @property
    def nbytes(self) -> int:
        """Bytes to load, and of what is made of them."""
        over = (_own(self.headers, each.parts) for each in self.modifiers)
        return sum(header.nbytes for own in over for header in own.values()) + (
            self.plan.nbytes if self.plan else 0
        )

    @property
    def scaled(self) -> bool:
        """Whether alpha / rank scales it."""
        return self.plan is not None and self.plan.scaled

    @property
    def rank(self) -> int | None:
        return self.plan.rank if self.plan else None


def check_layer(headers: Headers) -> Checked | None:
    """Return the parts of one layer once their shapes and types make sense together; None for numbers alone.

    Raises:
        FactorError: a part is missing, too large, of a wrong shape or type, or there are two kinds.
    """
    kinds = [kind for kind in KINDS if _own(headers, kind.parts)]
    over = tuple(each for each in MODIFIERS if _own(headers, each.parts))
    if not kinds and not over:
        return None
    if len(kinds) > 1:
        names = " and ".join(f"{kind.name} ({next(iter(_own(headers, kind.parts)))})" for kind in kinds)
        raise FactorError(f"has tensors of two kinds, {names}; expected one")
    kind = kinds[0] if kinds else None
    plan = kind.plan(_own(headers, kind.parts)) if kind else None
    for modifier in over:
        modifier.check(_own(headers, modifier.parts), plan)
    for part, header in _own(headers, NUMBERS).items():
        check_number(part, header)
    return Checked(headers, kind, plan, over)


def load_layer(checked: Checked, load: Callable[[str], Tensor], default_scale: float) -> Delta:
    """Read the tensors of one layer; the delta has the file's type, float32 where that is float64 or mixed.

    Args:
        checked: what `check_layer` returned.
        load: reads the tensor of a key.
        default_scale: the scale where the file has no alpha for the layer.

    Raises:
        FactorError: a value is not finite, or a number is out of range.
    """
    numbers = _numbers(checked, load, default_scale)
    delta = None
    if checked.kind and checked.plan:
        delta = checked.plan.build(_load(checked, checked.kind.parts, load), numbers)
    for modifier in checked.modifiers:
        delta = modifier.wrap(delta, _load(checked, modifier.parts, load), numbers)
    assert delta is not None
    return delta


def _own(headers: Headers, parts: Mapping[str, str]) -> dict[str, Header]:
    return {part: headers[part] for part in parts if part in headers}


def _load(checked: Checked, parts: Mapping[str, str], load: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """Return tensors of one type, all of them finite."""
    tensors = {
        part: finite(f"{part} factor", load(header.key))
        for part, header in _own(checked.headers, parts).items()
    }
    wide = [tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()]
    dtype = reduce(torch.promote_types, wide)
    return {part: tensor.to(dtype) for part, tensor in tensors.items()}


def _numbers(checked: Checked, load: Callable[[str], Tensor], default_scale: float) -> Numbers:
    given = {
        part: number_of(part, load(header.key)) for part, header in _own(checked.headers, NUMBERS).items()
    }
    alpha, scale = given.get("alpha"), 1.0
    if "scale" in given:  # instead of alpha / rank
        scale = given["scale"]
    elif checked.scaled and alpha is None:
        scale = default_scale
    elif checked.scaled and alpha is not None and checked.rank:
        scale = alpha / checked.rank
    return Numbers(scale * given.get("scalar", 1.0), alpha)
