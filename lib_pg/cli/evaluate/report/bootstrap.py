"""95 % intervals by resampling subjects, their prompts and the pictures of a prompt, for all methods alike.

All methods are measured on the same cells (subject, prompt, seed). A draw gives every cell a weight; all
methods share it, so that differences between methods are paired, picture by picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Part = Literal["whole", "here", "beyond"]
Means = Mapping[Part, Array]

DRAWS = 2000
LEVEL = 0.95
# A statistic that more draws than these leave undefined has no interval.
UNDEFINED_MAX = 0.05
# Student's t at 97.5 %, by degrees of freedom from 1.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
_Z = 1.959964


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """A statistic with what is known of it.

    Attributes:
        value: over all cells; not a number where it is undefined.
        here: for these very subjects with other prompts and seeds; None where over 5 % of the draws, or all
            cells, leave it undefined, and where every subject has one picture, of which nothing follows.
        beyond: for other subjects of their kind; None for a single subject, of which nothing follows, and
            where it is undefined.
        defined: share of the draws of `here` that define it.
    """

    value: float
    here: Interval | None
    beyond: Interval | None = None
    defined: float = 1.0

    @property
    def is_told(self) -> bool:
        """Whether its value stands for all cells and nearly all draws."""
        return bool(np.isfinite(self.value)) and self.defined >= 1 - UNDEFINED_MAX


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights of the cells, each row adding up to 1.

    Attributes:
        weights: for "whole", all cells without resampling, where subjects count alike, and so do the prompts
            of one: (1, cells); for "here", prompts and their pictures resampled, subjects not: (draws,
            cells); for "beyond", subjects resampled too: the same. A single subject has no "beyond".
        subjects: how many.
        vary: whether those of "here" differ; they do not where every subject has one picture.
    """

    weights: Mapping[Part, Array]
    subjects: int
    vary: bool = True

    def means(self, scores: Array) -> Means:
        """Return the means of scores (settings, cells) under all weights: (1 or draws, settings)."""
        return {part: weights @ scores.T for part, weights in self.weights.items()}


def draw(subjects: Codes, prompts: Codes, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Draw weights for cells.

    Args:
        subjects: (cells,) which subject each belongs to, numbered from 0 without gaps.
        prompts: (cells,) which prompt; subjects may share them.
        draws: how many.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    count = int(subjects.max()) + 1
    once = np.ones((draws, count), dtype=np.int64)
    weights: dict[Part, Array] = {
        "whole": without_resampling(subjects, prompts)[None],
        "here": _spread(once, subjects, prompts, rng),
    }
    if count > 1:
        chosen = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        weights["beyond"] = _spread(chosen, subjects, prompts, rng)
    return Draws(weights, count, len(subjects) > count)


def without_resampling(subjects: Codes, prompts: Codes) -> Array:
    """Return the weights of all cells: (cells,); subjects count alike, and so do the prompts of one."""
    once = np.ones((1, int(subjects.max()) + 1), dtype=np.int64)
    weights: Array = _spread(once, subjects, prompts, None)[0]
    return weights


def _spread(times: Codes, subjects: Codes, prompts: Codes, rng: np.random.Generator | None) -> Array:
    """Spread how often each subject was drawn, (draws, subjects), over its prompts and their cells.

    Subjects with the same prompts have the same ones drawn: a hard prompt is hard for all of them.
    """
    weights = np.zeros((len(times), len(subjects)))
    drawn: dict[bytes, Codes] = {}
    for subject in range(times.shape[1]):
        of_subject = np.flatnonzero(subjects == subject)
        names, which = np.unique(prompts[of_subject], return_inverse=True)
        together = names.tobytes()
        if together not in drawn:
            drawn[together] = _resampled(np.ones(len(times), dtype=np.int64), len(names), rng)
        for prompt in range(len(names)):
            cells = of_subject[which == prompt]
            share = times.shape[1] * len(names) * len(cells)
            often = times[:, subject] * drawn[together][:, prompt]
            weights[:, cells] = _resampled(often, len(cells), rng) / share
    return weights


def _resampled(times: Codes, parts: int, rng: np.random.Generator | None) -> Codes:
    """Return how often each of `parts` equal parts is drawn in times * parts draws: (draws, parts)."""
    if rng is None or parts == 1:
        return np.repeat(times[:, None], parts, axis=1)
    drawn: Codes = rng.multinomial(times * parts, np.full(parts, 1 / parts))
    return drawn


def estimate(statistic: Callable[[Part], Array], draws: Draws) -> Estimate:
    """Return a statistic with its intervals.

    Args:
        statistic: of each draw of a part: (1,) or (draws,); not a number where it is undefined.
        draws: which it is computed from.
    """
    value, found = float(statistic("whole")[0]), statistic("here")
    defined = float(np.isfinite(found).mean())
    if not (undrawn := Estimate(value, None, None, defined)).is_told:
        return undrawn
    beyond = _widened(value, statistic("beyond"), draws.subjects) if "beyond" in draws.weights else None
    return Estimate(value, _percentiles(found) if draws.vary else None, beyond, defined)


def _percentiles(found: Array) -> Interval:
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _widened(value: float, found: Array, subjects: int) -> Interval | None:
    """Return the interval that few subjects allow.

    The bootstrap's spread of a mean of n subjects is too small by (n - 1) / n and taken for known. Student's
    interval mends both: for a mean of n subjects it is the t interval of their means.
    """
    if np.isfinite(found).mean() < 1 - UNDEFINED_MAX:
        return None
    spread = float(np.nanstd(found)) * np.sqrt(subjects / (subjects - 1)) * student(subjects - 1)
    return Interval(value - float(spread), value + float(spread))


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to 0.001."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    terms = (
        _Z,
        (_Z**3 + _Z) / 4,
        (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96,
        (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
