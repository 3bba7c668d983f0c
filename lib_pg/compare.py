"""A comparison: which pictures to make, and how they are laid out beside each other.

Two sheets: the methods beside each other, and a strip over the weak ratio. A picture that both show is made
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib_pg.guidance import Mode
from lib_pg.ranges import RangeError, numbers
from lib_pg.settings import CONTROLS, Settings

MODES: tuple[Mode, ...] = ("CFG", "AG", "PG")  # from the plainest on, as the sheet shows them
DEFAULT_RATIOS = "0, 0.25, 0.5, 0.75, 1"
MOST_CELLS = 100
LEAST_SCALE, GREATEST_SCALE = 1.0, 100.0


class CompareError(ValueError):
    """A comparison cannot be made as asked for; the message says why and what to do."""


@dataclass(frozen=True)
class Cell:
    """What makes one picture, beside what all of them share.

    Attributes:
        mode: the method; CFG is the host without the extension.
        weak_ratio: omega; None with CFG, which has none.
        cfg_scale: the CFG scale.
    """

    mode: Mode
    weak_ratio: float | None
    cfg_scale: float

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that make it, by name, to be put in the place of the user's own."""
        if self.mode == "CFG":
            return {"enabled": False}
        return {"enabled": True, "mode": self.mode, "weak_ratio": self.weak_ratio}

    @property
    def label(self) -> str:
        """What is written above its column."""
        return self.mode if self.weak_ratio is None else f"{self.mode}, weak ratio {self.weak_ratio:g}"


@dataclass(frozen=True)
class Sheet:
    """Pictures in rows and columns: a row for each CFG scale, a column for each method or weak ratio.

    Attributes:
        name: what it compares.
        rows: of equal length, from the top; those of one column differ in the CFG scale alone.
    """

    name: str
    rows: tuple[tuple[Cell, ...], ...]

    def lines(self, seeds: Sequence[int]) -> list[tuple[str, int, tuple[Cell, ...]]]:
        """Return its lines as they are drawn: a label, which picture of each cell, and the cells.

        Args:
            seeds: of the pictures of a cell, which has one line for each of them.
        """
        return [
            (_line_label(row, self.rows, seeds, index), index, row)
            for row in self.rows
            for index in range(len(seeds))
        ]


@dataclass(frozen=True)
class Plan:
    """All of a comparison.

    Attributes:
        sheets: one or two.
    """

    sheets: tuple[Sheet, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every picture once, in the order in which they are made."""
        return list(dict.fromkeys(cell for sheet in self.sheets for row in sheet.rows for cell in row))


def plan(settings: Settings, cfg_scale: float, methods: object, ratios: object, scales: object) -> Plan:
    """Return what to make.

    Args:
        settings: the user's, of which the methods take the weak ratio.
        cfg_scale: the user's, where `scales` names none.
        methods: a list of some of CFG, AG and PG; their order is of no account.
        ratios: weak ratios of the strip as a text (see `ranges.numbers`); empty for no strip.
        scales: CFG scales as such a text; empty for the user's own.

    Raises:
        CompareError: a list that cannot be used, nothing to compare, or too many pictures.
    """
    chosen = _methods(methods)
    strip = _numbers("Weak ratios", ratios, 0.0, CONTROLS["weak_ratio"].maximum)
    rows = _numbers("CFG scales", scales, LEAST_SCALE, GREATEST_SCALE) or [float(cfg_scale)]
    guided = [mode for mode in chosen if mode != "CFG"]
    sheets = [_sheet("methods", [(mode, settings.weak_ratio) for mode in chosen], rows)]
    if guided and strip:
        sheets.append(_sheet("weak ratios", [(guided[-1], ratio) for ratio in strip], rows))
    made = Plan(tuple(sheets))
    if len(made.cells) > MOST_CELLS:
        raise CompareError(
            f"{len(made.cells)} cells are asked for, and at most {MOST_CELLS} are made; "
            "list fewer weak ratios or CFG scales"
        )
    return made


def _sheet(name: str, columns: Sequence[tuple[Mode, float]], scales: Sequence[float]) -> Sheet:
    return Sheet(
        name,
        tuple(
            tuple(Cell(mode, None if mode == "CFG" else ratio, scale) for mode, ratio in columns)
            for scale in scales
        ),
    )


def _line_label(row: Sequence[Cell], rows: Sequence[object], seeds: Sequence[int], index: int) -> str:
    """Name what a line shares and others do not."""
    scale = f"CFG scale {row[0].cfg_scale:g}" if len(rows) > 1 else ""
    seed = f"seed {seeds[index]}" if len(seeds) > 1 else ""
    return ", ".join(filter(None, (scale, seed)))


def _methods(given: object) -> list[Mode]:
    if not isinstance(given, (list, tuple)) or any(method not in MODES for method in given):
        names = ", ".join(map(repr, MODES))
        raise CompareError(f"Methods: got {str(given)[:60]!r}, must be a list of some of {names}")
    if not given:
        raise CompareError("Methods: none is chosen; choose one at least")
    return [mode for mode in MODES if mode in given]


def _numbers(name: str, text: object, minimum: float, maximum: float) -> list[float]:
    try:
        return numbers(text, minimum, maximum, MOST_CELLS)
    except RangeError as error:
        raise CompareError(f"{name}: {error}") from None
