"""`python -m lib_pg grid`: every cell is the picture that `generate` makes with its options."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lib_pg.cli.devices import chosen_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.asked import Asked, asked_for
from lib_pg.cli.generate.studio import Studio
from lib_pg.cli.grid.axes import Axis, Cell, axis_of, cells_of
from lib_pg.cli.grid.sheets import file_of, write_sheets
from lib_pg.cli.output import output_folder, replace_file
from lib_pg.cli.shares import Share, own_share

_PLAN = "grid.json"
_PLAN_BYTES_MAX = 1 << 20
_AXES = ("x", "y", "z")
# What changes no picture.
_NOT_PLANNED = ("command", "out", "device")


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    torch.set_grad_enabled(False)
    if options.count != 1:
        raise UsageError("a cell has one batch; give more pictures of a cell with --batch")
    share = own_share()
    axes = [axis_of(given) if given else None for given in (options.x, options.y, options.z)]
    for cell in cells_of(options, axes):
        asked_for(cell.options)  # what cannot be made is said before anything is written
    options.device = share.device(chosen_device(options.device))
    with output_folder(options.out, "--out"), _plan_kept(options, share):
        seed = _plan_in(options.out)["seed"]
        cells = [(cell, asked_for(cell.options)) for cell in _seeded(cells_of(options, axes), seed)]
        _make(share.of(cells), options.out, share)
        share.wait()
        if share.index == 0:
            for path in write_sheets(options.out, "Personalization guidance", axes, _batches(cells, axes)):
                print(path)
    return 0


def _seeded(cells: Sequence[Cell], seed: int) -> list[Cell]:
    """Return the cells with the grid's seed in those that no option and no picture gives one."""
    for cell in cells:
        if cell.options.seed is None and cell.options.from_png is None:
            cell.options.seed = seed
    return list(cells)


def _make(cells: Sequence[tuple[Cell, Asked]], folder: Path, share: Share) -> None:
    """Make the cells of this process that are not there yet."""
    said: set[str] = set()

    def say(message: str) -> None:
        if message not in said:
            said.add(message)
            tqdm.write(message, file=sys.stderr)

    def warn(message: str) -> None:
        say(f"warning: {message}")

    studio = Studio(say, warn, bars=False)
    left = [each for each in cells if not all(path.exists() for path in _files(folder, *each))]
    with tqdm(
        total=len(cells), initial=len(cells) - len(left), desc="cells", unit="cell", disable=share.index > 0
    ) as bar:
        for cell, asked in left:
            for notice in asked.notices:
                warn(notice)
            made = list(studio.made(asked, cell.options))
            for path, picture in zip(_files(folder, cell, asked), made, strict=True):
                replace_file(path, picture.png)
            bar.update()


def _files(folder: Path, cell: Cell, asked: Asked) -> list[Path]:
    return [folder / file_of(cell.place, index) for index in range(_pictures(asked))]


def _pictures(asked: Asked) -> int:
    return asked.job.batch if asked.position is None else 1


def _batches(cells: Sequence[tuple[Cell, Asked]], axes: Sequence[Axis | None]) -> list[list[list[int]]]:
    """Return how many pictures each cell has, by z, y and x."""
    x, y, z = (len(axis.texts) if axis else 1 for axis in axes)
    counts = [[[0] * x for _ in range(y)] for _ in range(z)]
    for cell, asked in cells:
        column, row, table = cell.place
        counts[table][row][column] = _pictures(asked)
    return counts


@contextmanager
def _plan_kept(options: argparse.Namespace, share: Share) -> Iterator[None]:
    """Write down what the grid is; a plan that led to no cell goes again, so that it may be corrected."""
    new = share.index == 0 and _keep_plan(options)
    share.wait()
    cells = options.out / "cells"
    cells.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it holds cells
                cells.rmdir()
                (options.out / _PLAN).unlink()


def _keep_plan(options: argparse.Namespace) -> bool:
    """Write down what the grid is, or see that what is in its folder is this one; return which.

    Raises:
        UsageError: the folder holds another.
    """
    path = options.out / _PLAN
    plan = {name: repr(value) for name, value in vars(options).items() if name not in (*_NOT_PLANNED, "seed")}
    if path.exists():
        before = _plan_in(options.out)
        if before["plan"] != plan or options.seed not in (None, before["seed"]):
            raise UsageError(f"{str(options.out)!r} holds another grid; choose another folder with --out")
        return False
    if (options.out / "cells").exists():
        raise UsageError(f"{str(options.out)!r} holds cells of an unknown grid; choose another --out")
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    replace_file(path, json.dumps({"seed": seed, "plan": plan}, indent=1).encode())
    return True


def _plan_in(folder: Path) -> Any:
    path = folder / _PLAN
    try:
        if path.stat().st_size > _PLAN_BYTES_MAX:
            raise ValueError(f"over {_PLAN_BYTES_MAX} bytes")
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found["seed"], int) or not isinstance(found["plan"], dict):
            raise ValueError("no plan of a grid")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error}; choose another --out") from error
    return found
