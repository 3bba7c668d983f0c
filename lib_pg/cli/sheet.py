"""Contact sheets: pictures in rows and columns, with labels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

PIXELS_MAX = 100_000_000  # of the pictures of a sheet together; a larger one is left out

_BACKGROUND = "white"
_INK = "#202020"
_FONT_SIZE = 18
_LINE = 23
_GAP = 8
_MARGIN = 16
_LABEL_WIDTH = 250
_LABEL_LETTERS = 26
_FEWEST_LETTERS = 8  # in a line above a column


@dataclass(frozen=True)
class Block:
    """One table of a sheet.

    Attributes:
        title: a line above it; may be long.
        columns: a label above each column.
        rows: for each row its label and, for each column, the pictures of that cell, side by side.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[Image.Image]]]]


def draw_sheet(title: str, blocks: Sequence[Block], zoom: int) -> Image.Image:
    """Draw tables one below the other.

    Args:
        title: heading of the sheet.
        blocks: the tables; every cell of a table has the same number of pictures of one size.
        zoom: factor by which pictures are enlarged, their pixels kept square.
    """
    drawn = [_draw_block(block, zoom) for block in blocks]
    width = max(block.width for block in drawn) + 2 * _MARGIN
    height = sum(block.height + _MARGIN for block in drawn) + 2 * _MARGIN + _LINE
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN), title, _INK, _font(_FONT_SIZE + 4))
    y = 2 * _MARGIN + _LINE
    for block in drawn:
        sheet.paste(block, (_MARGIN, y))
        y += block.height + _MARGIN
    return sheet


def _draw_block(block: Block, zoom: int) -> Image.Image:
    pictures = block.rows[0][1][0]
    cell_width = sum(picture.width * zoom + _GAP for picture in pictures)
    cell_height = pictures[0].height * zoom + _GAP
    width = _LABEL_WIDTH + len(block.columns) * (cell_width + _GAP)
    titles = textwrap.wrap(block.title, width // 9)
    labels = [textwrap.wrap(label, max(_FEWEST_LETTERS, cell_width // 10)) for label in block.columns]
    top = len(titles) * _LINE + _GAP
    head = max(1, *map(len, labels)) * _LINE
    image = Image.new("RGB", (width, top + head + len(block.rows) * cell_height), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.multiline_text((0, 0), "\n".join(titles), _INK, _font(_FONT_SIZE), spacing=4)
    for column, lines in enumerate(labels):
        x = _LABEL_WIDTH + column * (cell_width + _GAP)
        pen.multiline_text((x, top), "\n".join(lines), _INK, _font(_FONT_SIZE), spacing=4)
    for row, (label, cells) in enumerate(block.rows):
        y = top + head + _GAP + row * cell_height
        wrapped = "\n".join(textwrap.wrap(label, _LABEL_LETTERS))
        pen.multiline_text((0, y), wrapped, _INK, _font(_FONT_SIZE), spacing=4)
        for column, cell in enumerate(cells):
            x = _LABEL_WIDTH + column * (cell_width + _GAP)
            for picture in cell:
                image.paste(_enlarge(picture, zoom), (x, y))
                x += picture.width * zoom + _GAP
    return image


def _enlarge(picture: Image.Image, zoom: int) -> Image.Image:
    size = (picture.width * zoom, picture.height * zoom)
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
