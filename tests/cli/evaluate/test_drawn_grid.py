"""The grid of the drawn world, on the bundled model untaught."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from lib_pg.cli.evaluate.drawn import SCORES
from lib_pg.cli.evaluate.drawn_grid import draw_grid
from lib_pg.cli.evaluate.drawn_plan import Cell, Plan
from lib_pg.cli.evaluate.fine_tunes import COURSES, FineTune
from lib_pg.cli.evaluate.methods import METHODS, described
from lib_pg.cli.evaluate.pictures import Model, made, ready
from lib_pg.cli.evaluate.records import Record, Results, head_of, in_columns
from lib_pg.cli.paths import BUNDLED_PIPELINE
from lib_pg.cli.pipelines import load_pipeline

STEPS = 2
BEST = {"CFG": 2.5, "AG 0.25": 2.5, "PG 0.5": 1.75}
PLAN = Plan(
    courses=COURSES[:2],
    methods=tuple(replace(each, scales=(1.75, 2.5)) for each in METHODS if each.name in BEST),
    pictures_min=1,
)


def results() -> Results:
    """Return scores by which each method has the best scale that BEST names."""
    records = []
    for cell in PLAN.cells(Path()):
        good = cell.scale == BEST[cell.method.name]
        scores = {name: 0.9 if good else 0.1 for name in SCORES}
        records += [Record(*Cell.key(cell, each), scores) for each in PLAN.pictures(cell.fine_tune)]
    head = head_of("bundled", "1", STEPS, described(PLAN.methods), {}, SCORES)
    return in_columns(head, sorted(records, key=lambda record: record.key))


def test_each_row_has_the_true_drawing_and_every_method_at_its_best_scale(tmp_path: Path) -> None:
    pipeline = load_pipeline(BUNDLED_PIPELINE, None, "cpu", "float32")
    taken: list[FineTune] = []

    @contextmanager
    def take(fine_tune: FineTune) -> Iterator[Model]:
        taken.append(fine_tune)
        with ready(Model(pipeline), STEPS) as model:
            yield model

    path = tmp_path / "evidence-pictures.png"
    draw_grid(results(), PLAN, Path(), take, STEPS, path)
    assert [(each.subject, each.training) for each in taken] == [(c.subject, "normal") for c in PLAN.courses]

    sheet = np.asarray(Image.open(path).convert("RGB"))
    (first, second) = PLAN.pictures(taken[0])[10:21:10]
    cfg = METHODS[0].settings
    with ready(Model(pipeline), STEPS) as model:
        told = [(each.prompt, each.seed) for each in (first, second)]
        expected = made(model, cfg, BEST["CFG"], told, STEPS, print)
    for picture in (taken[0].subject.scene(*first.context).draw(), *expected):
        assert shows(sheet, np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1))
    assert not shows(sheet, np.repeat(np.repeat(expected[0][::-1], 2, axis=0), 2, axis=1))


def shows(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Return whether a picture is somewhere in a sheet, rounding aside."""
    height, width = picture.shape[:2]
    places = np.argwhere(np.abs(sheet[:, :, :].astype(int) - picture[0, 0]).max(axis=2) <= 1)
    return any(
        np.abs(sheet[y : y + height, x : x + width].astype(int) - picture).max() <= 1
        for y, x in places
        if sheet[y : y + height, x : x + width].shape == picture.shape
    )
