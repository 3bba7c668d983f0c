"""Labelled sheets of pictures, drawn, saved and returned as the host does with its own grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from lib_pg.hosts.webui.cells import Made, option

_FILE = "pg_compare"


class SheetTooLarge(ValueError):
    """A sheet would be larger than the host allows; the message says how large and what to do."""


@dataclass(frozen=True)
class Drawn:
    """A sheet as a picture.

    Attributes:
        picture: the picture.
        infotext: its parameters.
    """

    picture: Any
    infotext: str


def are_drawn(p: Any) -> bool:
    """Say whether the host's options want grids at all, to be shown or to be saved."""
    return bool(option(p, "return_grid") or _are_saved(p))


def check_size(p: Any, rows: int, columns: int) -> None:
    """Raise SheetTooLarge where the host's limit is below a sheet of so many pictures."""
    width, height = _size(p)
    megapixels = rows * columns * width * height / 1e6
    limit = option(p, "img_max_size_mp")
    if megapixels > limit:
        raise SheetTooLarge(
            f"a sheet of {columns} by {rows} pictures would have {megapixels:.0f} megapixels, and the host's "
            f"limit is {limit:g}; list fewer values, make smaller pictures, or raise the limit in the "
            "host's settings for saving images"
        )


def draw(rows: Sequence[Sequence[Any]], columns: Sequence[str], labels: Sequence[str]) -> Any:
    """Return pictures beside each other with labels.

    Args:
        rows: pictures, at least one; None leaves a place empty.
        columns: a label for each column.
        labels: a label for each row; no room is kept for them where all are empty.
    """
    from modules import images

    one = next(picture for row in rows for picture in row if picture is not None)
    empty = one.point(lambda _: 0)
    places = [empty if picture is None else picture for row in rows for picture in row]
    sheet = images.image_grid(places, rows=len(rows))
    width, height = (max(picture.size[side] for picture in places) for side in (0, 1))
    above = [[images.GridAnnotation(text)] for text in columns]
    beside = [[images.GridAnnotation(text)] for text in labels]
    return images.draw_grid_annotations(sheet, width, height, above, beside)


def infotext_of(made: Made, values: Mapping[str, str]) -> str:
    """Return the parameters of a sheet: those of one of its cells, and what was compared."""
    from modules import processing

    own = copy(made.p)
    own.extra_generation_params = {**made.p.extra_generation_params, **values}
    text = processing.create_infotext(own, own.all_prompts, own.all_seeds, own.all_subseeds)
    return str(text)


def save(p: Any, drawn: Drawn, made: Made) -> None:
    """Save a sheet where the host saves its grids, if it is to."""
    from modules import images

    if option(p, "enable_pnginfo"):
        drawn.picture.info["parameters"] = drawn.infotext
    if _are_saved(p):
        images.save_image(
            drawn.picture,
            p.outpath_grids,
            _FILE,
            seed=made.p.all_seeds[0],
            prompt=made.p.all_prompts[0],
            extension=option(p, "grid_format"),
            info=drawn.infotext,
            short_filename=not option(p, "grid_extended_filename"),
            grid=True,
            p=made.p,
        )


def result(drawn: Sequence[Drawn], made: Sequence[Made]) -> Any:
    """Return the host's result: the sheets, where it shows grids, then every picture of every cell.

    Args:
        drawn: the sheets.
        made: the cells, one at least.
    """
    shown = list(drawn) if option(made[0].p, "return_grid") else []
    processed = copy(made[-1].processed)  # it has the comments of all
    processed.images = [sheet.picture for sheet in shown] + [one for cell in made for one in cell.pictures]
    processed.infotexts = [sheet.infotext for sheet in shown] + [
        one for cell in made for one in cell.infotexts
    ]
    processed.index_of_first_image = len(shown)
    processed.info = processed.infotexts[0]
    for name in ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
        values = [list(getattr(cell.processed, name))[: len(cell.pictures)] for cell in made]
        setattr(processed, name, [value for part in values for value in part])
    return processed


def nothing(p: Any) -> Any:
    """Return the host's result of a request that made no picture."""
    from modules import processing

    return processing.Processed(p, [])


def _are_saved(p: Any) -> bool:
    return bool(option(p, "grid_save") and not p.do_not_save_grid)


def _size(p: Any) -> tuple[float, float]:
    """Return the width and height of a picture in pixels, after hires fix if there is one."""
    if not getattr(p, "enable_hr", False):
        return p.width, p.height
    width, height = p.hr_resize_x, p.hr_resize_y
    if not width and not height:
        return p.width * p.hr_scale, p.height * p.hr_scale
    return width or p.width * height / p.height, height or p.height * width / p.width
