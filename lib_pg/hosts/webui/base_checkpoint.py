"""The base checkpoint of a WebUI's generations, compared with the one that is loaded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from lib_pg.deltas import Parameters
from lib_pg.hosts.base_checkpoint import BaseCheckpoint

# Where the host's model has it: so it ends with the model, and keeps none alive.
_ATTRIBUTE = "personalization_guidance_base"

Own = Callable[[nn.Module], Parameters]


class BaseCheckpoints:
    """The base checkpoint that was compared last and its weak weights, for the next generations."""

    def __init__(self) -> None:
        self._model: weakref.ref[Any] | None = None
        self._key: Any = None
        self._own: Own | None = None

    def get(self, model: Any, key: Any, own: Own, compare: Callable[[Own], BaseCheckpoint]) -> BaseCheckpoint:
        """Return what `model` has learned since its base, compared now if it is not at hand.

        Args:
            model: the host's model.
            key: the loaded checkpoint and the base; only compared.
            own: returns a layer's parameters in the loaded checkpoint, as long as this pass lasts.
            compare: is given a function that does so in later passes, too.
        """
        found: BaseCheckpoint | None = getattr(model, _ATTRIBUTE, None)
        is_known = self._model is not None and self._model() is model and self._key == key
        self._own = own
        if found is None or not is_known:
            self.clear()  # before the other is read: two copies might not fit
            self._own = own
            found = compare(self._own_now)
            setattr(model, _ATTRIBUTE, found)
            self._model, self._key = weakref.ref(model), key
        return found

    def end_pass(self) -> None:
        """Forget what belongs to a pass."""
        self._own = None

    def clear(self) -> None:
        """Free the weak weights."""
        model = None if self._model is None else self._model()
        if model is not None and hasattr(model, _ATTRIBUTE):
            delattr(model, _ATTRIBUTE)
        self._model, self._key, self._own = None, None, None

    def _own_now(self, module: nn.Module) -> Parameters:
        assert self._own is not None, "weak weights are made within a pass"
        return self._own(module)
