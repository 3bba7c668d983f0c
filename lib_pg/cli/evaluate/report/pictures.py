"""A grid of pictures: the same prompt and seed in each row, a column a method at its own best scale."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from lib_pg.cli.evaluate.report.fronts import own_best
from lib_pg.cli.evaluate.report.study import Group, Study
from lib_pg.cli.output import replace_file
from lib_pg.cli.sheet import Block, draw_sheet

_CELL = 128  # pixels, about
_KEY = "Run"  # in the file's text


def best_scales(study: Study, group: Group) -> dict[str, float]:
    """Return each method's own best scale, as the page has it."""
    whole, found = group.whole(), {}
    for each in group.methods:
        alignment, fidelity = (each.scores[name] @ whole for name in (study.alignment, study.fidelity))
        found[each.method] = each.scales[own_best(alignment, fidelity, study.reference)]
    return found


def write_grid(
    path: Path,
    title: str,
    learned: Sequence[Image.Image],
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    run: str,
) -> None:
    """Write a grid as PNG.

    Args:
        path: PREFIX-pictures.png beside the page for the page to show it.
        title: heading, such as the subject and its training.
        learned: pictures that the subject was learned from, shown above; may be empty.
        columns: names of methods, with their scales.
        rows: of each prompt and seed the label and a picture a column; the last is one that was made.
        run: whose pictures these are, as `part_files.run_of` names it.
    """
    size = min(_CELL, *rows[0][1][-1].size)
    zoom = max(1, _CELL // size)
    squares = [(label, [[_square(picture, size)] for picture in pictures]) for label, pictures in rows]
    blocks = [Block("The same prompt and seed in each row", columns, squares)]
    if learned:
        cell = [_square(picture, size) for picture in learned]
        blocks.insert(0, Block("Learned from", [""], [("", [cell])]))
    stream, said = io.BytesIO(), PngInfo()
    said.add_text(_KEY, run)
    draw_sheet(title, blocks, zoom).save(stream, format="PNG", pnginfo=said)
    replace_file(path, stream.getvalue())


def is_grid_of(path: Path, run: str) -> bool:
    """Say whether a file is a grid of this run: one of another may lie where a page is written."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return bool(image.info.get(_KEY) == run)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _square(picture: Image.Image, size: int) -> Image.Image:
    """Return the middle of a picture as a square of so many pixels."""
    return ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
