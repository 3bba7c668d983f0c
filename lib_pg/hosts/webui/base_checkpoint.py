"""What a WebUI's model has learned since its base checkpoint, kept on the model between generations.

It ends with the model, keeps none alive, and is the same for all tabs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from lib_pg.deltas import Parameters
from lib_pg.hosts.base_checkpoint import BaseCheckpoint
from lib_pg.hosts.webui.checkpoints import loaded_models

_ATTRIBUTE = "personalization_guidance_base"

Own = Callable[[nn.Module], Parameters]


@dataclass(eq=False)
class KeptBase:
    """A comparison of a model with its base.

    Attributes:
        base: its result, with the weak weights.
        key: the loaded checkpoint and the base that it is of.
    """

    base: BaseCheckpoint
    key: Any
    _reader: _Reader

    def pristine(self, module: nn.Module, own: Own) -> Parameters | None:
        """Return a layer's parameters in the base; None where the fine-tune has not moved it.

        Args:
            own: how the current pass reads the loaded checkpoint's; weak weights are made with it.
        """
        self._reader.own = own
        return self.base.pristine(module)

    def end_pass(self) -> None:
        """Forget the pass that has read last."""
        self._reader.own = None


@dataclass(eq=False)
class _Reader:
    """Reads the loaded checkpoint's parameters as the current pass does, with its networks in mind."""

    own: Own | None

    def __call__(self, module: nn.Module) -> Parameters:
        assert self.own is not None, "weak weights are made within a pass"
        return self.own(module)


def base_of(model: Any, key: Any, own: Own, compare: Callable[[Own], BaseCheckpoint]) -> KeptBase:
    """Return what `model` has learned since its base, compared now if it is not at hand.

    Args:
        model: the host's model.
        key: the loaded checkpoint and the base; only compared.
        own: returns a layer's parameters in the loaded checkpoint, as long as this pass lasts.
        compare: is given a function that does so in later passes, too.
    """
    kept: KeptBase | None = getattr(model, _ATTRIBUTE, None)
    if kept is None or kept.key != key:
        forget_base(model)  # before the other is read: two copies might not fit
        reader = _Reader(own)
        kept = KeptBase(compare(reader), key, reader)
        setattr(model, _ATTRIBUTE, kept)
    return kept


def forget_unused(model: Any, is_used: bool) -> None:
    """Free the weak weights of all models that the host has loaded, but for the one that is used now.

    Args:
        model: the host's current one.
        is_used: whether the coming generation is guided.
    """
    for loaded in loaded_models():
        if loaded is not model:
            forget_base(loaded)
    if not is_used:
        forget_base(model)


def forget_base(model: Any) -> None:
    """Free the weak weights of a model."""
    kept: KeptBase | None = getattr(model, _ATTRIBUTE, None)
    if kept is not None:
        kept.base.free()
        delattr(model, _ATTRIBUTE)
        del kept
        gc.collect()  # an ended pass is part of a circle, and holds what was cut to a low rank
