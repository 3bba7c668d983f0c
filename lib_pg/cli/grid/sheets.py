"""Contact sheets of a grid: HTML, and PNG where that does not become too large."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from lib_pg.cli.grid.axes import Axis
from lib_pg.cli.output import replace_file
from lib_pg.cli.sheet import PIXELS_MAX, Block, draw_sheet

_STYLE = (
    "body{font-family:sans-serif}td{vertical-align:top}th{text-align:left;font-weight:normal;padding:4px}"
)
Axes = Sequence[Axis | None]


def file_of(place: tuple[int, int, int], index: int) -> str:
    """Return the file name of a cell's picture, below the grid's folder."""
    x, y, z = place
    return f"cells/z{z:03d}-y{y:03d}-x{x:03d}-{index}.png"


def write_sheets(
    folder: Path, title: str, axes: Axes, batch: Sequence[Sequence[Sequence[int]]]
) -> list[Path]:
    """Write the sheets of a grid whose pictures are all there, and return their paths.

    Args:
        folder: of the grid.
        title: heading of the sheets.
        axes: x, y and z.
        batch: pictures in a cell, by z, y and x.
    """
    page = folder / "grid.html"
    replace_file(page, _html(title, axes, batch).encode(errors="replace"))  # a path may be no text
    image = _image(folder, title, axes, batch)
    if image is None:
        return [page]
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    replace_file(folder / "grid.png", stream.getvalue())
    return [page, folder / "grid.png"]


def labels(axis: Axis | None) -> list[str]:
    """Return what stands beside an axis's values."""
    return [f"{axis.option} {text}" for text in axis.texts] if axis else [""]


def _html(title: str, axes: Axes, batch: Sequence[Sequence[Sequence[int]]]) -> str:
    x, y, z = map(labels, axes)
    lines = [
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
    ]
    for table, heading in enumerate(z):
        lines.append(f"<h2>{escape(heading)}</h2><table><tr><th>")
        lines += [f"<th>{escape(text)}" for text in x]
        for row, label in enumerate(y):
            lines.append(f"<tr><th>{escape(label)}")
            for column in range(len(x)):
                files = [file_of((column, row, table), each) for each in range(batch[table][row][column])]
                lines.append("<td>" + "".join(f'<img src="{file}" loading=lazy>' for file in files))
        lines.append("</table>")
    return "\n".join(lines) + "\n"


def _image(
    folder: Path, title: str, axes: Axes, batch: Sequence[Sequence[Sequence[int]]]
) -> Image.Image | None:
    """Return one picture of all; None where it would be too large."""
    x, y, z = map(labels, axes)
    most = max(count for table in batch for row in table for count in row)
    sizes = []
    for table, rows in enumerate(batch):
        for row, counts in enumerate(rows):
            for column in range(len(counts)):
                with Image.open(folder / file_of((column, row, table), 0)) as first:
                    sizes.append(first.size)
    size = (max(width for width, _ in sizes), max(height for _, height in sizes))
    if size[0] * size[1] * len(sizes) * most > PIXELS_MAX:
        return None

    def cell(column: int, row: int, table: int) -> list[Image.Image]:
        pictures = [Image.new("RGB", size, "white") for _ in range(most)]
        for index in range(batch[table][row][column]):
            with Image.open(folder / file_of((column, row, table), index)) as picture:
                pictures[index].paste(picture)
        return pictures

    blocks = [
        Block(heading, x, [(label, [cell(c, r, t) for c in range(len(x))]) for r, label in enumerate(y)])
        for t, heading in enumerate(z)
    ]
    return draw_sheet(title, blocks, zoom=1)
