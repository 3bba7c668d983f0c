"""What a WebUI's user is told of one generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib_pg import TITLE


class Notices:
    """Tells the user a sentence once a generation: below the picture, on the console and on the page at once.

    Args:
        p: the host's processing object.
        warn_on_page: shows a sentence on the page while the generation runs, where a page waits for it.
    """

    def __init__(self, p: Any, warn_on_page: Callable[[str], None]) -> None:
        self._p = p
        self._warn_on_page = warn_on_page
        self._told: list[str] = []

    def warn(self, message: str) -> None:
        """Tell the user a sentence: the cause and what to do; repeating it changes nothing."""
        if message in self._told:
            return
        self._told.append(message)
        self._p.comment(f"{TITLE}: {message}")
        print(f"[{TITLE}] {message}")
        self._warn_on_page(f"{TITLE}: {message}")

    def answer(self, processed: Any) -> None:
        """Tell the API's caller, whose answer has no place for comments.

        Args:
            processed: the host's result; its parameters are replaced, as those of `p` make infotexts.
        """
        if self._told:
            processed.extra_generation_params = {**processed.extra_generation_params, TITLE: self._told}
