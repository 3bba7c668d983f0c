"""The drawn world as a test: contexts that subjects are asked for in, and the rules that judge pictures.

Light to import, for processes that do nothing but judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.measure import fidelity, matches, read
from training.world import PLACES, SIZES, SUBJECTS, Subject, full_caption

PARTS = ("background", "place", "size")
SCORES = {
    "alignment": {"about": "1 where background, place and size are all as the prompt says", "step": 1},
    "fidelity": {"about": "likeness to the subject's drawing, 0 to 1", "step": 0.001},
    "background": {"about": "1 where the background is as the prompt says", "step": 1},
    "place": {"about": "1 where the subject is where the prompt says", "step": 1},
    "size": {"about": "1 where the subject is as big or small as the prompt says", "step": 1},
}

NOTES = (
    "Subjects, contexts and pictures are drawings: a tiny model of 64 x 64 pixels, taught each subject by "
    "four pictures that are all big, in the studio, in the center. Some captions tell the subject alone, so "
    "that it learns to bring that context along, as LoRAs of real subjects do. Prompts ask for other "
    "contexts. Subjects differ in how soon they bring it along: for each, the captions and the steps of each "
    "amount of training were chosen by how often plain CFG at scale 2.5 follows, nearly always (under), in "
    "about 80 % (normal, full and lokr) or about 60 % (over) of the prompts. No picture made with PG had a "
    "part in that choice. Subjects are taught on one thread of a CPU, whatever makes the pictures. "
    "Companions of the scene, other colours and actions are not in this world: nothing is said of them here.",
)


class Context(NamedTuple):
    """Where a subject is asked for."""

    background: str
    place: str
    size: str


# Subjects' pictures are all big, in the studio, in the center: each prompt contradicts one to three of that.
_BACKGROUNDS = ("beach", "meadow", "night", "snow", "desert", "sea")
CONTEXTS = tuple(
    Context(background, place, ("small", "big")[number % 2])
    for number, (background, place) in enumerate(product(_BACKGROUNDS, PLACES))
)


def subject_called(name: str) -> Subject:
    """Return one of the drawn world's subjects."""
    return next(subject for subject in SUBJECTS if subject.name == name)


def prompt_for(subject: Subject, context: Context) -> str:
    """Return what asks for a subject in a context."""
    return full_caption(subject.scene(*context), subject.noun)


def judged(pictures: NDArray[np.uint8], name: str, contexts: Sequence[Context]) -> list[dict[str, float]]:
    """Return the scores of pictures (n, 64, 64, 3) of one subject, each asked for in its context."""
    subject = subject_called(name)
    return [_scores(picture, subject, context) for picture, context in zip(pictures, contexts, strict=True)]


def _scores(picture: NDArray[np.uint8], subject: Subject, context: Context) -> dict[str, float]:
    found = matches(read(picture), subject.scene(*context))
    parts = {part: float(found[part]) for part in PARTS}
    return {
        "alignment": float(all(parts.values())),
        "fidelity": max(0.0, min(1.0, fidelity(picture, subject))),
        **parts,
    }


def errors_of_rules(subjects: Sequence[Subject], contexts: Sequence[Context] = CONTEXTS) -> dict[str, Any]:
    """Return how far the rules can be trusted, measured on true drawings.

    Of each subject, drawn in every context: how often the rules miss that it follows its
    prompt, how often they see something that is not as the prompt says (each part of the prompt wrong in
    turn), and the likeness of the subject and of the other subjects.
    """
    return {subject.name: _errors_of(subject, contexts) for subject in subjects}


def _errors_of(subject: Subject, contexts: Sequence[Context]) -> dict[str, Any]:
    missed: dict[str, list[float]] = {part: [] for part in ("alignment", *PARTS)}
    seen: dict[str, list[float]] = {part: [] for part in PARTS}
    own = []
    for context in contexts:
        drawing = subject.scene(*context).draw()
        scores, reading = _scores(drawing, subject, context), read(drawing)
        own.append(scores["fidelity"])
        for part, misses in missed.items():
            misses.append(1 - scores[part])
        for part, wrong in _wrong(context):
            seen[part].append(matches(reading, subject.scene(*wrong))[part])
    others = [
        fidelity(other.scene(*context).draw(), subject)
        for other in SUBJECTS
        if other != subject
        for context in contexts
    ]
    return {
        "missed": {part: round(mean(found), 4) for part, found in missed.items()},
        "wrongly seen": {part: round(mean(found), 4) for part, found in seen.items()},
        "likeness": _spread(own),
        "likeness of others": _spread(others),
    }


def _wrong(context: Context) -> list[tuple[str, Context]]:
    """Return the context with one part changed to each other value, with the part's name."""
    values = {"background": ("studio", *_BACKGROUNDS), "place": tuple(PLACES), "size": tuple(SIZES)}
    return [
        (part, context._replace(**{part: value}))
        for part in PARTS
        for value in values[part]
        if value != getattr(context, part)
    ]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "mean": round(mean(values), 4),
        "lowest": round(min(values), 4),
        "highest": round(max(values), 4),
    }
