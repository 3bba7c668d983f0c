"""What the page's events do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from lib_pg.cli.errors import UsageError
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.serve.comparison import comparison
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.cli.serve.turns import Cancelled, Turns
from lib_pg.cli.serve.wanted import CHOICES, FIELDS, Wanted, values_of_picture, wanted
from lib_pg.page.compare import chosen_methods
from lib_pg.page.forecast import as_html
from lib_pg.settings import CONTROLS

_READ = (*FIELDS, *CONTROLS, *CHOICES)


@dataclass
class _Shown:
    """What one press of a button has made so far, and what is said of it.

    Attributes:
        pictures: files, each with the place of the request that it is of.
        sheet: the file of a comparison's sheet.
    """

    pictures: list[tuple[int, Path]] = field(default_factory=list)
    sheet: Path | None = None
    said: list[str] = field(default_factory=list)

    def outputs(self) -> list[Any]:
        """Return the gallery and what stands below it."""
        files = [self.sheet] if self.sheet else []
        files += [path for _, path in self.pictures]
        return [[str(path) for path in files] or gr.skip(), as_html(list(dict.fromkeys(self.said)))]


@dataclass(frozen=True)
class Events:
    """Called by the page with the values of its components.

    Attributes:
        server: the options of `serve`.
    """

    shelf: Shelf
    turns: Turns
    server: argparse.Namespace

    def draw(self, visitor: str, *values: Any, progress: gr.Progress = gr.Progress()) -> Iterator[list[Any]]:  # noqa: B008
        """Yield the gallery and what is said, anew with each picture."""

        def make(shown: _Shown) -> Iterator[None]:
            yield from self._pictures([wanted(values, self.shelf, self.server)], visitor, shown, progress)

        yield from _told(make)

    def compare(
        self,
        visitor: str,
        *values: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[list[Any]]:
        """Yield the pictures of a comparison as `draw` does, and at last the sheet before them.

        Args:
            values: the choices, then those of `draw`.
        """
        choices, own = values[: len(CHOICES)], values[len(CHOICES) :]

        def make(shown: _Shown) -> Iterator[None]:
            made = comparison(own, choices, self.shelf, self.server)
            try:
                yield from self._pictures(made.wanted, visitor, shown, progress)
            finally:
                if shown.pictures:
                    shown.sheet = made.save_sheet(shown.pictures, self.server.out)
            if shown.sheet is None:
                shown.said.append("A sheet of so many pictures would be too large; they are here one by one.")

        yield from _told(make)

    def cancel(self, visitor: str) -> str:
        """End the visitor's drawing, whether it runs or waits."""
        running = self.turns.cancel(visitor)
        return as_html(["Cancelled after this step." if running else "Cancelled."])

    def read(self, path: str | None) -> list[Any]:
        """Set every field that a dropped picture decides."""
        try:
            values, notices = values_of_picture(path or "", self.shelf)
        except UsageError as error:
            said = as_html([f"The picture's settings cannot be used: {error}."])
            return [*(gr.skip() for _ in _READ), said]
        if "methods" in values:
            values["methods"] = chosen_methods(values["methods"]) or gr.skip()
        updates = [values.get(name, gr.skip()) for name in _READ]
        return [*updates, as_html(["The picture's settings are set.", *notices])]

    def look(self, chosen: str | None) -> Any:
        """Offer the checkpoints that are there now."""
        self.shelf.look()
        names = list(self.shelf.checkpoints)
        return gr.update(choices=names, value=chosen if chosen in names else next(iter(names), None))

    def parameters(self, pictures: Sequence[Any], chosen: gr.SelectData) -> str:
        """Return what a picture of the gallery says of itself."""
        return read_parameters(pictures[chosen.index][0])

    def _pictures(
        self, requests: Sequence[Wanted], visitor: str, shown: _Shown, progress: gr.Progress
    ) -> Iterator[None]:
        """Make the pictures of some requests; yield after each."""
        for request in requests:
            shown.said += request.asked.notices

        def steps_done(done: int, total: int) -> None:
            progress((done, total), desc="sampling", unit="steps")

        for place, path in self.turns.draw(requests, visitor, steps_done, shown.said.append):
            shown.pictures.append((place, path))
            yield
        shown.said.append(f"Saved in {self.server.out}")


def _told(make: Callable[[_Shown], Iterator[None]]) -> Iterator[list[Any]]:
    """Yield the outputs after each picture; what goes wrong is said below those that were made."""
    shown = _Shown()
    try:
        for _ in make(shown):
            yield shown.outputs()
    except UsageError as error:
        shown.said.append(f"{'Ended early' if shown.pictures else 'Nothing was made'}: {error}.")
    except Cancelled:
        shown.said.append("Cancelled.")
    yield shown.outputs()
