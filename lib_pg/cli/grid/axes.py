"""The axes of a grid: an option of `generate` and its values, written as in the WebUIs."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NoReturn

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.options import add_options
from lib_pg.ranges import RangeError, spread

VALUES_MAX = 100
CELLS_MAX = 1000
_WHOLE_MAX = 2**53  # beyond, not every whole number is a float
# What is no setting of one picture.
_NO_AXES = ("out", "count", "device", "help")


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        option: its name on the command line, without dashes before it.
        texts: the values as they would be written there.
        fields: for each value, the one option's field that it decides, and what it is read as.
    """

    option: str
    texts: tuple[str, ...]
    fields: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Cell:
    """One place of the grid; `options` are those that `generate` would have for it."""

    place: tuple[int, int, int]
    options: argparse.Namespace


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def axis_of(given: Sequence[str]) -> Axis:
    """Return the axis of an option's name and its values.

    Raises:
        UsageError: there is no such option, or a value is none of its values.
    """
    parser = _Parser(prog="generate", add_help=False, allow_abbrev=False)
    add_options(parser)
    name, values = given[0].strip().lstrip("-").replace("_", "-"), given[1]
    actions = {spelling[2:]: action for action in parser._actions for spelling in action.option_strings}
    known = [each for each in actions if each not in _NO_AXES]
    if name not in known:
        raise UsageError(f"{name[:60]!r} is no axis; choose one of {', '.join(known)}")
    action = actions[name]
    texts = _texts(name, values, action.type)
    fields = [(action.dest, getattr(parser.parse_args([f"--{name}={text}"]), action.dest)) for text in texts]
    return Axis(name, tuple(texts), tuple(fields))


def cells_of(options: argparse.Namespace, axes: Sequence[Axis | None]) -> list[Cell]:
    """Return all cells, those of one model one after the other.

    Args:
        options: of the command.
        axes: x, y and z; None for one that is not used.

    Raises:
        UsageError: two axes are one option, or there are too many cells.
    """
    used = [axis for axis in axes if axis]
    if len({axis.option for axis in used}) < len(used):
        raise UsageError("two axes are the same option; choose another for one of them")
    total = math.prod(len(axis.texts) for axis in used)
    if total > CELLS_MAX:
        raise UsageError(f"the grid has {total} cells, at most {CELLS_MAX} are made; give fewer values")
    choices = [axis.fields if axis else ((),) for axis in axes]
    cells = []
    for x, y, z in product(*(range(len(each)) for each in choices)):
        fields = [each[index] for each, index in zip(choices, (x, y, z), strict=True)]
        changed = {**vars(options), **dict(field for field in fields if field)}
        cells.append(Cell((x, y, z), argparse.Namespace(**changed)))
    return sorted(cells, key=_model_of)


def _model_of(cell: Cell) -> str:
    options = cell.options
    return repr([options.checkpoint, options.config, options.vae, options.dtype])


def _texts(name: str, values: str, kind: object) -> list[str]:
    if "\n" in values or "\r" in values:
        raise UsageError(f"the values of {name} have a line break; write them on one line")
    texts: list[str] = []
    for text in next(csv.reader([values], skipinitialspace=True), []):
        try:
            found = spread(text, VALUES_MAX) if kind in (int, float) else None
        except RangeError as error:
            raise UsageError(f"{name}: {error}") from error
        if kind is int and found and "[" not in text and not all(map(float.is_integer, found)):
            raise UsageError(f"{name} takes whole numbers, {text[:60]!r} has others; give a whole step")
        texts += [text.strip()] if found is None else [_written(number, kind) for number in found]
        if len(texts) > VALUES_MAX:
            raise UsageError(f"{name} has over {VALUES_MAX} values; give fewer")
    if not texts:
        raise UsageError(f"{name} has no values; give a list such as 1, 2, 3")
    if len(set(texts)) < len(texts):
        raise UsageError(f"{name} has a value twice: {values[:60]!r}; give each once")
    return texts


def _written(number: float, kind: object) -> str:
    if kind is int and abs(number) > _WHOLE_MAX:
        raise UsageError(f"ranges go up to {_WHOLE_MAX}, got {number:.0f}; list greater numbers one by one")
    return str(int(number)) if kind is int else f"{number:.10g}"
