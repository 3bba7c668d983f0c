"""A comparison of methods: its pictures are those of `generate`, its sheet can be read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_pg.cli.errors import UsageError
from lib_pg.cli.serve import comparison as comparing
from lib_pg.cli.serve.comparison import Comparison, comparison
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.cli.serve.turns import Turns
from lib_pg.cli.serve.wanted import values_of_picture
from tests.cli.serve.test_turns import asked, drawn, same
from tests.cli.serve.test_wanted import SERVER, values

CHOICES = (["PG", "CFG"], "0, 1", "")


def compared(choices: Any = CHOICES, **changes: Any) -> Comparison:
    fields = {"steps": 2, "batch": 1, "count": 1, "seed": 3, "sampler": "DPM++ 2M", **changes}
    return comparison(values(**fields), choices, Shelf(None, None), SERVER)


def made(turns: Turns, job: Comparison) -> list[tuple[int, Path]]:
    return list(turns.draw(job.wanted, "me", lambda done, total: None, lambda said: None))


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Turns:
    return Turns(tmp_path_factory.mktemp("compared"))


def test_each_cell_is_the_picture_of_its_settings(turns: Turns) -> None:
    """Also where the accordion's own tick is off: methods are chosen here."""
    pictures = made(turns, compared(enabled=False, weak_ratio=0.5))
    assert [place for place, _ in pictures] == [0, 1, 2, 3]
    alone: list[dict[str, Any]] = [{"enabled": False}, *({"weak_ratio": ratio} for ratio in (0.5, 0.0, 1.0))]
    for (_, path), changes in zip(pictures, alone, strict=True):
        assert same(path, drawn(turns, asked(**changes))[0]), changes


def test_scales_are_rows_and_a_random_seed_is_one_for_all() -> None:
    job = compared((["CFG"], "", "3, 5.5"), seed=-1, scale=9.0)
    jobs = [one.asked.job for one in job.wanted]
    assert [one.scale for one in jobs] == [3.0, 5.5]
    assert jobs[0].seed == jobs[1].seed
    assert compared(seed=-1).wanted[0].asked.job.seed != compared(seed=-1).wanted[0].asked.job.seed


def test_the_sheet_shows_every_picture_in_its_place(turns: Turns, tmp_path: Path) -> None:
    job = compared((["CFG", "PG"], "", "3, 5"), batch=2)
    pictures = made(turns, job)
    assert len(pictures) == 8
    path = job.save_sheet(pictures, tmp_path)
    assert path is not None and path.parent == tmp_path / "grids"
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB"))
    places = [found(sheet, file) for _, file in pictures]
    lefts, tops = ({place[axis] for place in places} for axis in (0, 1))
    assert (len(lefts), len(tops), len(set(places))) == (2, 4, 8)
    # Cells are made row by row: the batch of one cell is one below the other, its methods side by side.
    assert [(sorted(lefts).index(x), sorted(tops).index(y)) for x, y in places] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3),
    ]  # fmt: skip


def found(sheet: Any, path: Path) -> tuple[int, int]:
    """Return where a picture is on a sheet that shows it enlarged, its pixels kept square."""
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    large = picture.repeat(3, 0).repeat(3, 1)
    height, width = large.shape[:2]
    corners = np.argwhere((sheet[: -height + 1, : -width + 1] == large[0, 0]).all(-1))
    places = [
        (int(x), int(y)) for y, x in corners if np.array_equal(sheet[y : y + height, x : x + width], large)
    ]
    assert len(places) == 1
    return places[0]


def test_a_sheet_reads_back_as_what_was_compared(turns: Turns, tmp_path: Path) -> None:
    job = compared()
    path = job.save_sheet(made(turns, job), tmp_path)
    read, notices = values_of_picture(str(path), Shelf(None, None))
    assert notices == []
    expected = {"methods": "PG, CFG", "ratios": "0, 1", "seed": 3, "steps": 2, "enabled": True}
    assert expected.items() <= read.items() and "scales" not in read


def test_pictures_that_are_missing_leave_their_places_empty(turns: Turns, tmp_path: Path) -> None:
    job = compared()
    some = made(turns, job)[:2]
    path = job.save_sheet(some, tmp_path)
    assert path is not None
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB"))
    assert len({found(sheet, file) for _, file in some}) == 2


def test_a_sheet_that_would_be_too_large_is_left_out(
    turns: Turns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = compared()
    monkeypatch.setattr(comparing, "PIXELS_MAX", 4 * 192 * 192 - 1)
    assert job.save_sheet(made(turns, job), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("choices", "changes", "said"),
    [
        (([], "0", ""), {}, "Methods: none is chosen"),
        ((["XX"], "0", ""), {}, "Methods: got"),
        ((["PG"], "2", ""), {}, "Weak ratios"),
        ((["PG"], "0", "0.5"), {}, "CFG scales"),
        ((["PG"], "0-1 [99]", "3, 4"), {}, "at most 100 are made"),
        ((["PG"], "0", ""), {"weak_ratio": 7}, "weak_ratio: got 7"),
        ((["PG"], "0", ""), {"checkpoint": "x"}, "checkpoint 'x' is not in the list"),
    ],
)
def test_what_cannot_be_compared_is_refused(choices: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compared(choices, **changes)
    assert said in str(caught.value)


def test_a_text_of_a_sheet_that_names_no_method_is_none() -> None:
    from lib_pg.page.compare import chosen_methods

    assert chosen_methods("AG, nothing, PG") == ["AG", "PG"] and chosen_methods("x" * 10_000) == []
