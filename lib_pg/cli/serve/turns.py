"""One visitor's drawing at a time, which that visitor alone can cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from lib_pg.cli.generate.studio import Studio
from lib_pg.cli.output import output_folder, save_new
from lib_pg.cli.serve.wanted import Wanted


class Cancelled(Exception):
    """The visitor whose pictures they are has cancelled them."""


class Turns:
    """Draws for one visitor after the other, on the model that stays loaded.

    Args:
        out: where the pictures go.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._said: Callable[[str], None] = print
        self._studio = Studio(self._say, self._say, bars=False)
        self._busy = threading.Lock()
        self._visitor = ""
        self._cancelled = threading.Event()

    def draw(
        self,
        wanted: Sequence[Wanted],
        visitor: str,
        progress: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> Iterator[tuple[int, Path]]:
        """Yield each picture's file as it is written, and which of the requests it is of.

        Args:
            wanted: requests, made one after the other.
            visitor: whose pictures they are, for `cancel`.
            progress: is told how many of how many steps are done.
            say: is told what will happen, and what is not as it may be expected.

        Raises:
            Cancelled: the visitor has done so.
            UsageError: a file cannot be used, or nothing can be written.
        """
        with self._busy, torch.no_grad(), output_folder(self._out, "--out"):
            self._visitor, self._said = visitor, say
            self._cancelled.clear()
            steps = self._counted(sum(one.steps for one in wanted), progress)
            try:
                for place, one in enumerate(wanted):
                    for made in self._studio.made(one.asked, one.options, steps):
                        yield place, save_new(made.png, self._out, made.seed)
            finally:
                self._visitor, self._said = "", print

    def cancel(self, visitor: str) -> bool:
        """End the drawing of a visitor after the current step; return whether there is one."""
        if visitor and visitor == self._visitor:
            self._cancelled.set()
            return True
        return False

    def _counted(self, total: int, progress: Callable[[int, int], None]) -> Callable[[], None]:
        done = 0

        def on_step() -> None:
            nonlocal done
            done += 1
            progress(done, total)
            if self._cancelled.is_set():
                raise Cancelled

        return on_step

    def _say(self, message: str) -> None:
        self._said(message)
