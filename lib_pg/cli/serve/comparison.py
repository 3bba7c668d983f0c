"""The page's values as a comparison: a request for each of its pictures, and the sheet of all of them."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lib_pg.cli.errors import UsageError
from lib_pg.cli.output import output_folder, save_new
from lib_pg.cli.picture_files import png_with, read_parameters
from lib_pg.cli.png_text import compose, parse
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.cli.serve.wanted import FIELDS, RANDOM_SEED, Wanted, wanted
from lib_pg.cli.sheet import PIXELS_MAX, Block, draw_sheet
from lib_pg.compare import Cell, CompareError, Plan, Sheet, plan
from lib_pg.page.compare import parameters_of
from lib_pg.settings import CONTROLS, Settings, SettingsError

# Below the folder of pictures.
SHEETS = "grids"
_LEAST_WIDTH = 192  # pixels; labels need some room


@dataclass(frozen=True)
class Comparison:
    """What is compared, and the request that makes each cell of the plan.

    Attributes:
        said: what its sheet says of it, besides the parameters of a picture.
    """

    plan: Plan
    wanted: Sequence[Wanted]
    said: Mapping[str, str]

    def save_sheet(self, pictures: Sequence[tuple[int, Path]], out: Path) -> Path | None:
        """Draw all pictures on one sheet, save it, and return its file; None where it would be too large.

        Args:
            pictures: files, each with the place of its cell in the plan; those that are missing stay empty.
            out: the folder of pictures.

        Raises:
            UsageError: it cannot be written.
        """
        cells = self.plan.cells
        files: dict[Cell, list[Path]] = {}
        for place, path in pictures:
            files.setdefault(cells[place], []).append(path)
        first, last = pictures[0][1], pictures[-1][1]
        job, count = self.wanted[0].asked.job, max(map(len, files.values()))
        seeds = [job.seed + index for index in range(count)]
        with Image.open(first) as picture:
            size = picture.size
        zoom = max(1, _LEAST_WIDTH // size[0])
        places = sum(len(sheet.rows) * len(sheet.rows[0]) for sheet in self.plan.sheets) * count
        if places * size[0] * size[1] * zoom**2 > PIXELS_MAX:
            return None
        blocks = [_block(sheet, seeds, files, size) for sheet in self.plan.sheets]
        drawn = draw_sheet("Personalization guidance: compare", blocks, zoom)
        found = parse(read_parameters(last))
        text = compose(found.prompt, found.negative, {**found.pairs, **self.said})
        with output_folder(out / SHEETS, "--out"):
            return save_new(png_with(drawn, text), out / SHEETS, job.seed)


def comparison(
    values: Sequence[Any], choices: Sequence[Any], shelf: Shelf, server: argparse.Namespace
) -> Comparison:
    """Return what the page's values and choices ask for.

    Args:
        values: as for `wanted`; a random seed is drawn once, for all.
        choices: methods, weak ratios and CFG scales; see `lib_pg.compare.plan`.

    Raises:
        UsageError: a value or a choice cannot be used.
    """
    names = (*FIELDS, *CONTROLS)
    given = dict(zip(names, values, strict=True))
    if given["seed"] == RANDOM_SEED:
        given["seed"] = secrets.randbelow(2**32)
    try:
        settings = Settings.from_list(list(values[len(FIELDS) :]))
        made = plan(settings, given["scale"], *choices)
    except (SettingsError, CompareError) as error:
        raise UsageError(str(error)) from error
    jobs = []
    for cell in made.cells:
        own = {**given, **cell.settings, "scale": cell.cfg_scale}
        jobs.append(wanted([own[name] for name in names], shelf, server))
    return Comparison(made, jobs, parameters_of(*choices))


def _block(
    sheet: Sheet, seeds: Sequence[int], files: Mapping[Cell, Sequence[Path]], size: tuple[int, int]
) -> Block:
    def picture(cell: Cell, index: int) -> Image.Image:
        own = files.get(cell, ())
        if index >= len(own):
            return Image.new("RGB", size, "white")
        with Image.open(own[index]) as found:
            return found.convert("RGB")

    lines = sheet.lines(seeds)
    rows = [(label, [[picture(cell, index)] for cell in cells]) for label, index, cells in lines]
    return Block(sheet.name, [cell.label for cell in sheet.rows[0]], rows)
