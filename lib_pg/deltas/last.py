"""A memory of one value, for what depends on omega: it changes once a step at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Last(Generic[Value]):
    """What was made last, and of which arguments.

    Unlike a cache around a method of its owner it does not refer to the owner: tensors on a device must go
    with their last user, not when Python looks for circles.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[Any, ...], Value] | None = None

    def of(self, make: Callable[..., Value], *arguments: Any) -> Value:
        """Return `make(*arguments)`, made anew only where the arguments are not the last ones."""
        kept = self._kept
        if kept is None or kept[0] != arguments:
            kept = self._kept = arguments, make(*arguments)
        return kept[1]
