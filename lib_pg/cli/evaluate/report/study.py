"""What was measured as arrays of settings by cells; a cell is a subject, a prompt and a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.records import Head, Results
from lib_pg.cli.evaluate.report.bootstrap import Array, Codes, without_resampling

Axis = Literal["alignment", "fidelity"]
# Trainings in the order in which they are told of; others follow.
_TRAININGS = ("under", "normal", "over")


@dataclass(frozen=True, eq=False)
class Scored:
    """One method with one amount of training.

    Attributes:
        method: its name.
        settings: of guidance, those that differ from their defaults.
        about: what it is, in a few words.
        scales: (scales,), ascending.
        scores: by name, (scales, cells).
    """

    method: str
    settings: Mapping[str, Any]
    about: str
    scales: tuple[float, ...]
    scores: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Group:
    """All methods on the same cells, with one amount of training.

    Attributes:
        training: what it is called.
        subjects, prompts: (cells,) which they are, numbered from 0; subjects share prompts that differ by
            what each calls its subject.
        names: of the subjects.
        methods: in the order of the run's head.
        left_out: pictures that not all settings have, and which count nowhere.
    """

    training: str
    subjects: Codes
    prompts: Codes
    names: tuple[str, ...]
    methods: tuple[Scored, ...]
    left_out: int = 0

    def whole(self) -> Array:
        """Return the weight of each cell in a mean: (cells,)."""
        return without_resampling(self.subjects, self.prompts)


@dataclass(frozen=True, eq=False)
class Study:
    """A run of the evaluation.

    Attributes:
        head: of the run.
        groups: by amount of training.
        alignment, fidelity: names of the scores that are compared.
        reference: the point (alignment, fidelity) that hypervolumes go down to.
        seeds: all seeds, ascending.
    """

    head: Head
    groups: tuple[Group, ...]
    alignment: str = "alignment"
    fidelity: str = "fidelity"
    reference: tuple[float, float] = (0.0, 0.0)
    seeds: tuple[int, ...] = ()

    def called(self, axis: Axis) -> str:
        """Return what readers call the score that is an axis."""
        score = self.alignment if axis == "alignment" else self.fidelity
        return self.score_called(score)

    def score_called(self, score: str) -> str:
        return str(self.head["scores"][score].get("called", score))


def study_of(results: Results) -> Study:
    """Arrange results for comparison.

    A head may name the compared scores under `axes`, and the reference point under `reference`.

    Raises:
        UsageError: there is no picture, or not one that all methods of an amount of training have.
    """
    if not len(results):
        raise UsageError("there are no pictures to report on; let the evaluation go on")
    axes = results.head.get("axes", {})
    names = {axis: str(axes.get(axis, axis)) for axis in ("alignment", "fidelity")}
    if missing := [name for name in names.values() if name not in results.scores]:
        raise UsageError(
            f"the results have no score {missing[0]!r}, which is to be compared; there are "
            f"{', '.join(results.scores)}"
        )
    reference = results.head.get("reference", (0.0, 0.0))
    trainings = dict.fromkeys((*_TRAININGS, *results.training.tolist()))
    groups = [
        _group(results.where(results.training == training), training)
        for training in trainings
        if (results.training == training).any()
    ]
    return Study(
        results.head,
        tuple(groups),
        **names,
        reference=(float(reference[0]), float(reference[1])),
        seeds=tuple(np.unique(results.seed).tolist()),
    )


def _group(results: Results, training: str) -> Group:
    subjects, subject = _numbered(results.subject)
    prompts, prompt = _numbered(results.prompt)
    cells, cell = np.unique(np.stack([subject, prompt, results.seed], axis=1), axis=0, return_inverse=True)
    methods, method = _numbered(results.method)
    settings, setting = np.unique(
        np.stack([method.astype(np.float64), results.scale], axis=1), axis=0, return_inverse=True
    )
    places = np.full((len(settings), len(cells)), -1)
    places[setting.ravel(), cell.ravel()] = np.arange(len(results))
    shared = (places >= 0).all(axis=0)
    if not shared.any():
        raise UsageError(
            f"the settings of training {training!r} have no picture in common yet; let the evaluation go on"
        )
    places = places[:, shared]
    told = results.head["methods"]
    scored = [
        _scored(results, name, places[settings[:, 0] == methods.index(name)], told.get(name, {}))
        for name in dict.fromkeys((*told, *methods))
        if name in methods
    ]
    kept, subject = np.unique(cells[shared, 0], return_inverse=True)
    return Group(
        training,
        subject.astype(np.int64),
        _numbered(shared_prompts(subject, [prompts[number] for number in cells[shared, 1].tolist()]))[1],
        tuple(subjects[number] for number in kept.tolist()),
        tuple(scored),
        len(results) - places.size,
    )


def shared_prompts(subjects: Codes, prompts: Sequence[str]) -> list[str]:
    """Return cells' prompts without the words that all prompts of a subject have: what it is called."""
    called: dict[int, set[str]] = {}
    for subject, prompt in zip(subjects.tolist(), prompts, strict=True):
        words = set(prompt.split())
        called[subject] = called.get(subject, words) & words
    return [
        " ".join(word for word in prompt.split() if word not in called[subject])
        for subject, prompt in zip(subjects.tolist(), prompts, strict=True)
    ]


def _scored(results: Results, method: str, places: Codes, told: Mapping[str, Any]) -> Scored:
    """Return a method whose scores lie at these places of the results: (scales, cells)."""
    scales = tuple(results.scale[places[:, 0]].tolist())
    scores = {name: column[places] for name, column in results.scores.items()}
    return Scored(method, told.get("settings", {}), str(told.get("about", "")), scales, scores)


def _numbered(names: Any) -> tuple[list[str], Codes]:
    """Return the different names, sorted, and the number of each."""
    different, numbers = np.unique(names, return_inverse=True)
    return different.tolist(), numbers.ravel().astype(np.int64)
