"""Which engine makes a layer's weak rows, and why: the one place that decides it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from lib_pg.deltas.base import Additive, Delta, Transforming
from lib_pg.weak_branch.layers import layer_shape

# Above this share of the layer's own multiplications, W_w costs less than what is added: one kernel more for
# half of the rows, and nothing for each network.
_CHEAP = 0.25
# Fewer multiplications than this take no time beside a kernel's launch; then W_w is not worth its memory.
_SMALL = 1024


@dataclass(frozen=True)
class Choice:
    """An engine for one layer, and the reason in the user's words."""

    engine: Literal["thin", "split", "joined"]
    reason: str


Chooser = Callable[[nn.Module, Sequence[Delta]], Choice]


def choose(module: nn.Module, deltas: Sequence[Delta]) -> Choice:
    """Choose by the multiplications a position of the output costs, and by what the thin engine can do.

    Args:
        deltas: what all networks of the branch change in the layer.
    """
    kinds = " and ".join(dict.fromkeys(delta.kind for delta in deltas))
    cheap = [delta for delta in deltas if isinstance(delta, (Additive, Transforming))]
    stacked = len(deltas) > 1 and any(isinstance(delta, Transforming) for delta in deltas)
    if len(cheap) < len(deltas) or stacked:
        return Choice("split", kinds)
    shape = layer_shape(module)
    if shape is None or (isinstance(module, nn.Conv2d) and module.groups != 1):
        return Choice("split", f"{kinds} on {type(module).__name__}")
    if sum(delta.cost for delta in cheap) > max(_CHEAP * math.prod(shape), _SMALL):
        return Choice("split", f"{kinds} of high rank")
    return Choice("thin", kinds)
