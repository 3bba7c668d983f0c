"""What a WebUI's user is told of one generation, or of all cells of a grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib_pg import TITLE
from lib_pg.formats.errors import one_line
from lib_pg.hosts.webui.console import say

# Where a grid's cells, copies of one processing object, find what others of them have told.
_OF_GRID = "personalization_guidance_told"

# The sentences that were told: for each message, by the pass that it is about.
Told = dict[str, dict[str, str]]


class Notices:
    """Tells the user a sentence once: below the picture, on the console and on the page at once.

    A sentence names the pass it is about where there are two, and in a grid the cell it came from first.
    In the second pass the page is not told again.

    Args:
        p: the host's processing object.
        warn_on_page: shows a sentence on the page while the generation runs, where a page waits for it.
        cell: what the axes of a grid want for this generation; empty where they are not ours.
    """

    def __init__(self, p: Any, warn_on_page: Callable[[str], None], cell: str = "") -> None:
        self._p = p
        self._warn_on_page = warn_on_page
        self._cell = one_line(cell)
        self._of_grid: Told | None = getattr(p, _OF_GRID, None)
        self._told: Told = {} if self._of_grid is None else self._of_grid

    @property
    def has_told(self) -> bool:
        """Whether the user was told anything."""
        return bool(self._told)

    def warn(self, message: str, whole: bool = False, of: str = "") -> None:
        """Tell the user a sentence: the cause and what to do; repeating it changes nothing.

        Args:
            whole: it is about the generation, not about one of its passes.
            of: the model it is about, where that is not the first: what holds for both is told once.
        """
        message = one_line(message)
        texts = self._told.setdefault(message, {})
        name = "" if whole else _pass_of(self._p)
        if name in texts or (of and texts):
            return
        is_new = not texts
        labels = [f"first at {self._cell}" if self._cell else "", name, of]
        texts[name] = ": ".join([*filter(None, labels), message])
        self._p.comment(f"{TITLE}: {texts[name]}")
        say(texts[name])
        if is_new:
            self._tell_page(texts[name])

    def _tell_page(self, text: str) -> None:
        try:
            self._warn_on_page(f"{TITLE}: {text}")
        except Exception as error:  # the page is told a second time at best: the picture is worth more
            say(f"the page could not be told. {error!r}")

    def answer(self, processed: Any) -> None:
        """Tell the API's caller, whose answer has no place for comments.

        Args:
            processed: the host's result; its parameters are replaced, as those of `p` make infotexts.
        """
        if self._of_grid is None:
            _answer(processed, self._told)


def collecting(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Return a host's function that draws a grid, which then has the notices of all cells, each once.

    Args:
        draw: takes the processing object whose copies the cells are, and returns the host's result.
    """

    def draw_and_tell(p: Any, *args: Any, **named: Any) -> Any:
        told: Told = {}
        setattr(p, _OF_GRID, told)
        try:
            processed = draw(p, *args, **named)
        finally:
            delattr(p, _OF_GRID)
        there = processed.comments.splitlines()  # those of the first cell alone
        ours = [f"{TITLE}: {text}" for text in _texts(told)]
        processed.comments += "".join(f"{text}\n" for text in ours if text not in there)
        _answer(processed, told)
        return processed

    return draw_and_tell


def _answer(processed: Any, told: Told) -> None:
    if told:
        processed.extra_generation_params = {**processed.extra_generation_params, TITLE: _texts(told)}


def _texts(told: Told) -> list[str]:
    return [text for texts in told.values() for text in texts.values()]


def _pass_of(p: Any) -> str:
    if getattr(p, "is_hr_pass", False):
        return "hires pass"
    return "first pass" if getattr(p, "enable_hr", False) else ""
