"""Null prompts that need not be encoded again."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

# A schedule of omega asks for one a step where a network adapts the text encoder.
_KEPT = 32


class NullPrompts:
    """The last encoded null prompts of one model; those of another model push them out."""

    def __init__(self) -> None:
        self._model: weakref.ref[Any] | None = None
        self._prompts: list[tuple[Any, Any]] = []

    def get(self, model: Any, key: Any, encode: Callable[[], Any]) -> Any:
        """Return the null prompt for `key`, encoded now if it is not at hand.

        Args:
            model: the host's model, which is not kept alive.
            key: everything that the encoding depends on beside the model; only compared.
        """
        if self._model is None or self._model() is not model:
            self._prompts.clear()
            self._model = weakref.ref(model)
        for known, prompt in self._prompts:
            if known == key:
                return prompt
        prompt = encode()
        self._prompts.insert(0, (key, prompt))
        del self._prompts[_KEPT:]
        return prompt
