"""The base checkpoint of a WebUI's generations, compared with the one that is loaded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from lib_pg.hosts.base_checkpoint import BaseCheckpoint


class BaseCheckpoints:
    """The base checkpoint that was compared last and its weak weights, for the next generations."""

    def __init__(self) -> None:
        self._model: weakref.ref[Any] | None = None
        self._key: Any = None
        self._base: BaseCheckpoint | None = None

    def get(self, model: Any, key: Any, compare: Callable[[], BaseCheckpoint]) -> BaseCheckpoint:
        """Return what `model` has learned since its base, compared now if it is not at hand.

        Args:
            model: the host's model, which is not kept alive.
            key: the loaded checkpoint and the base; only compared.
        """
        if self._base is None or self._model is None or self._model() is not model or key != self._key:
            self.clear()  # before the other is read: two copies might not fit
            self._base = compare()
            self._model, self._key = weakref.ref(model), key
        return self._base

    def clear(self) -> None:
        """Free the weak weights."""
        self._model, self._key, self._base = None, None, None
