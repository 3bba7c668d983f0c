"""The run of the protocol `bundled`: teach the subjects, make the pictures, judge them, keep the records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lib_pg import __version__
from lib_pg.cli.devices import check_device
from lib_pg.cli.evaluate.drawn import NOTES, SCORES, Context, errors_of_rules, judged
from lib_pg.cli.evaluate.drawn_grid import draw_grid
from lib_pg.cli.evaluate.drawn_plan import Cell, Picture, Plan, in_batches, quick
from lib_pg.cli.evaluate.fine_tunes import FineTune, teach_subject
from lib_pg.cli.evaluate.judges import Judges, judges, processes_beside
from lib_pg.cli.evaluate.methods import described
from lib_pg.cli.evaluate.part_files import finished, merged, part_file
from lib_pg.cli.evaluate.pictures import SAMPLER, Model, Pictures, made, ready
from lib_pg.cli.evaluate.records import Head, head_of, load, save
from lib_pg.cli.evaluate.report.write import PREFIX, write_report
from lib_pg.cli.hashes import WITHOUT_HEADER, fingerprint
from lib_pg.cli.output import output_folder
from lib_pg.cli.paths import BUNDLED_PIPELINE
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.cli.refused import in_one_line
from lib_pg.cli.shares import Share, own_share
from lib_pg.hosts.diffusers import load_base_checkpoint, load_network
from training.common import draw_all
from training.train_vae import through_autoencoder
from training.world import Subject

RESULTS = "results.json"
Warn = Callable[[str], None]


def evaluate(options: argparse.Namespace, plan: Plan | None = None) -> int:
    """Carry out the protocol and return the exit code."""
    share = own_share()
    device = share.device(options.device)
    check_device(device)
    plan = plan or (quick(Plan(seed=options.seed)) if options.quick else Plan(seed=options.seed))
    with output_folder(options.cache, "--cache"), output_folder(options.out, "--out"):
        _teach(plan, options.cache, share)
        share.wait()
        shelf = _Shelf(device)
        head = _head(plan, options, shelf)
        with part_file(options.out, share.index, head) as part:
            cells = _left(plan, options, head, share)
            with judges(part, processes_beside(device, share.count)) as found:
                _make(cells, options, share, shelf, found)
        share.wait()
        if share.index == 0:
            _write(plan, options, head, shelf)
    return 0


def _write(plan: Plan, options: argparse.Namespace, head: Head, shelf: _Shelf) -> None:
    """Write results, picture grid and page, and print where they are."""
    results, path, warn = merged(options.out, head), options.out / RESULTS, _Warnings()
    save(results, path)
    print(path)
    draw_grid(
        load(path),  # rounded, as the page has them: both name the same best scales
        plan,
        options.cache,
        lambda fine_tune: ready(shelf.take(fine_tune, warn), options.steps),
        options.steps,
        options.out / f"{PREFIX}-pictures.png",
    )
    print(write_report(path, options.out))


def _teach(plan: Plan, cache: Path, share: Share) -> None:
    """Teach this process's share of the subjects, those that take the longest first."""
    courses = share.of(sorted(plan.courses, key=lambda course: -course.stops[-1][1]))
    total = sum(course.stops[-1][1] for course in courses)
    with tqdm(total=total, desc="teaching", unit="step", disable=share.index > 0) as bar:
        for course in courses:
            before = bar.n
            for _ in teach_subject(course, plan.seed, cache):
                bar.update()
            bar.update(before + course.stops[-1][1] - bar.n)  # what was taught before


def _head(plan: Plan, options: argparse.Namespace, shelf: _Shelf) -> Head:
    fine_tunes = plan.fine_tunes(options.cache)
    models = {f"{each.subject.name}, {each.training}": _content(each.path) for each in fine_tunes}
    subjects = list(dict.fromkeys(each.subject for each in fine_tunes))
    return head_of(
        "bundled",
        __version__,
        options.steps,
        described(plan.methods),
        {"base": _content(BUNDLED_PIPELINE), **models},
        SCORES,
        seed=options.seed,
        command=f"python -m lib_pg evaluate --bundled{' --quick' if options.quick else ''} "
        f"--steps {options.steps} --seed {options.seed}",
        sampler=SAMPLER,
        courses=[asdict(course) for course in plan.courses],
        rules=errors_of_rules(subjects, plan.contexts),
        notes=[*NOTES, _most(shelf.base(), subjects, plan.contexts)],
        machine={"device": _name_of(options.device), "torch": torch.__version__},
    )


def _most(pipeline: Any, subjects: Sequence[Subject], contexts: Sequence[Context]) -> str:
    """Say what the best model could reach: true drawings that went through its autoencoder."""
    said = []
    for subject in subjects:
        drawn = draw_all([subject.scene(*context) for context in contexts])
        seen = through_autoencoder(pipeline.vae, drawn).permute(0, 2, 3, 1).numpy()
        scores = judged(seen, subject.name, contexts)
        likeness, followed = (mean(each[name] for each in scores) for name in ("fidelity", "alignment"))
        said.append(f"{subject.name} {likeness:.2f} (prompt followed: {followed:.0%})")
    return f"The most that can be reached, true drawings through the model's autoencoder: {', '.join(said)}."


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _content(path: Path) -> str:
    """Return a hash of weights alone: the order of what is said in a file's header is left to chance."""
    return fingerprint(path, WITHOUT_HEADER)


def _left(
    plan: Plan, options: argparse.Namespace, head: Head, share: Share
) -> list[tuple[Cell, list[Picture]]]:
    """Return this process's cells with the pictures that are not made yet."""
    done = finished(options.out, head)
    cells = share.of(plan.cells(options.cache))
    left = [
        (cell, [each for each in plan.pictures(cell.fine_tune) if cell.key(each) not in done])
        for cell in cells
    ]
    return [(cell, pictures) for cell, pictures in left if pictures]


def _make(
    cells: list[tuple[Cell, list[Picture]]],
    options: argparse.Namespace,
    share: Share,
    shelf: _Shelf,
    found: Judges,
) -> None:
    """Make the pictures of all cells, each taught subject's together, and have them judged."""
    total = sum(len(pictures) for _, pictures in cells)
    with tqdm(total=total, desc="pictures", unit="picture", disable=share.index > 0) as bar:
        for fine_tune, own in groupby(cells, key=lambda each: each[0].fine_tune):
            warn = _Warnings()
            with ready(shelf.take(fine_tune, warn), options.steps) as model:
                for cell, pictures in own:
                    found.judge(cell, pictures, _pictures(model, cell, pictures, options, warn, bar))


def _pictures(
    model: Model, cell: Cell, pictures: list[Picture], options: argparse.Namespace, warn: Warn, bar: Any
) -> Pictures:
    settings, batches = cell.method.settings, []
    for few in in_batches(pictures, options.batch):
        told = [(each.prompt, each.seed) for each in few]
        batches.append(made(model, settings, cell.scale, told, options.steps, warn))
        bar.update(len(few))
    return np.concatenate(batches)


class _Shelf:
    """Taught subjects, loaded as `generate` loads a user's files; networks share one base model."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._base: Any = None

    def base(self) -> Any:
        """Return the base model."""
        self._base = self._base or load_pipeline(BUNDLED_PIPELINE, None, self._device, "float32")
        return self._base

    def take(self, fine_tune: FineTune, warn: Warn) -> Model:
        """Load a taught subject.

        Raises:
            UsageError: its file is damaged.
        """
        with in_one_line():
            if fine_tune.is_checkpoint:
                pipeline = load_pipeline(fine_tune.path, None, self._device, "float32")
                base = load_base_checkpoint(pipeline, BUNDLED_PIPELINE, fine_tune.path.name, warn)
                return Model(pipeline, base=base)
            return Model(self.base(), (load_network(self.base(), fine_tune.path, warn=warn),))


class _Warnings:
    """Says each message once, above the progress bar."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            tqdm.write(f"warning: {message}", file=sys.stderr)
