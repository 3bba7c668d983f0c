"""The picture grid of the protocol `bundled`: some prompts with every method at its own best scale."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from PIL import Image

from lib_pg.cli.evaluate.drawn_plan import Picture, Plan
from lib_pg.cli.evaluate.fine_tunes import FineTune
from lib_pg.cli.evaluate.part_files import run_of
from lib_pg.cli.evaluate.pictures import Model, made
from lib_pg.cli.evaluate.records import Results
from lib_pg.cli.evaluate.report.pictures import best_scales, write_grid
from lib_pg.cli.evaluate.report.study import study_of

TRAINING = "normal"
SHOWN = (
    "CFG", "AG 0.5", "PG 0", "PG 0.25", "PG 0.5", "PG 0.75", "PG 1 to 0", "PG 0 to 1", "PG early, None",
)  # fmt: skip
_ROWS = 2  # of each subject


def draw_grid(
    results: Results,
    plan: Plan,
    cache: Path,
    take: Callable[[FineTune], AbstractContextManager[Model]],
    steps: int,
    path: Path,
) -> None:
    """Make the pictures of a grid again and write it.

    Args:
        results: which tell each method's own best scale.
        plan: that they were made by.
        cache: where the taught subjects are kept.
        take: has a taught subject ready for a block.
        steps: sampling steps.
        path: PNG to write.
    """
    study = study_of(results)
    group = next((each for each in study.groups if each.training == TRAINING), study.groups[0])
    scales = best_scales(study, group)
    methods = [each for each in plan.methods if each.name in SHOWN and each.name in scales]
    rows = []
    for fine_tune in plan.fine_tunes(cache):
        if fine_tune.training != group.training:
            continue
        asked = _rows(plan.pictures(fine_tune))
        told = [(each.prompt, each.seed) for each in asked]
        with take(fine_tune) as model:
            columns = [made(model, each.settings, scales[each.name], told, steps, _warn) for each in methods]
        for number, picture in enumerate(asked):
            true = fine_tune.subject.scene(*picture.context).draw()
            shown = [Image.fromarray(each) for each in (true, *(column[number] for column in columns))]
            rows.append((picture.prompt, shown))
    labels = ["as it is meant", *(f"{each.name} at {scales[each.name]:g}" for each in methods)]
    title = f"Training: {group.training}; every method at its own best scale"
    write_grid(path, title, [], labels, rows, run_of(results.head))


def _rows(pictures: list[Picture]) -> list[Picture]:
    """Return pictures from all over a subject's prompts."""
    step = max(1, len(pictures) // (_ROWS + 1))
    return pictures[step::step][:_ROWS] or pictures[:_ROWS]


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
