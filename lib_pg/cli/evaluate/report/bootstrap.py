"""95 % intervals by resampling subjects, their prompts and the pictures of a prompt, for all methods alike.

All methods are measured on the same cells (subject, prompt, seed). A draw gives every cell a weight; all
methods share it, so that differences between methods are paired, picture by picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

DRAWS = 2000
LEVEL = 0.95
# A statistic that more draws than these leave undefined has no interval.
_UNDEFINED_MAX = 0.05
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
        value: over all cells.
        here: for these very subjects with other prompts and seeds; None where too many draws leave it
            undefined.
        beyond: for other subjects of their kind; None for a single subject, of which nothing follows, and
            where `here` is.
    """

    value: float
    here: Interval | None
    beyond: Interval | None


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights of the cells, each row adding up to 1.

    Attributes:
        whole: (1, cells), no resampling: subjects count alike, and so do the prompts of one.
        here: (draws, cells), prompts and pictures resampled within each subject.
        beyond: (draws, cells), subjects resampled too; None for a single subject.
        subjects: how many.
    """

    whole: Array
    here: Array
    beyond: Array | None
    subjects: int

    def means(self, scores: Array) -> Means:
        """Return the means of scores (settings, cells) under all weights."""
        return Means(*(None if each is None else each @ scores.T for each in self._all()))  # type: ignore[arg-type]

    def _all(self) -> tuple[Array, Array, Array | None]:
        return self.whole, self.here, self.beyond


@dataclass(frozen=True, eq=False)
class Means:
    """Means of settings: (1, settings), (draws, settings) and the same with other subjects or None."""

    whole: Array
    here: Array
    beyond: Array | None

    def value(self) -> Array:
        """Return the means over all cells: (settings,)."""
        return self.whole[0]

    def part(self, number: int) -> Array:
        """Return those of 0 all cells, 1 `here`, 2 `beyond`."""
        found = (self.whole, self.here, self.beyond)[number]
        assert found is not None, "a single subject has no draws of others"
        return found


def draw(subjects: Codes, prompts: Codes, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Draw weights for cells.

    Args:
        subjects: (cells,) which subject each belongs to, numbered from 0 without gaps.
        prompts: (cells,) which prompt, equal only within a subject or between subjects, as it may be.
        draws: how many.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    count = int(subjects.max()) + 1
    ones = np.ones((1, count), dtype=np.int64)
    whole = _spread(ones, subjects, prompts, None)
    here = _spread(np.repeat(ones, draws, axis=0), subjects, prompts, rng)
    beyond = None
    if count > 1:
        chosen = rng.multinomial(count, np.full(count, 1 / count), size=draws)
        beyond = _spread(chosen, subjects, prompts, rng)
    return Draws(whole, here, beyond, count)


def _spread(times: Codes, subjects: Codes, prompts: Codes, rng: np.random.Generator | None) -> Array:
    """Spread how often each subject was drawn, (draws, subjects), over its prompts and their cells.

    A subject drawn twice has its prompts drawn twice, independently: together one multinomial.
    """
    weights = np.zeros((len(times), len(subjects)))
    for subject in range(times.shape[1]):
        of_subject = np.flatnonzero(subjects == subject)
        names, which = np.unique(prompts[of_subject], return_inverse=True)
        by_prompt = _resampled(times[:, subject], len(names), rng)
        for prompt in range(len(names)):
            cells = of_subject[which == prompt]
            share = times.shape[1] * len(names) * len(cells)
            weights[:, cells] = _resampled(by_prompt[:, prompt], len(cells), rng) / share
    return weights


def _resampled(times: Codes, parts: int, rng: np.random.Generator | None) -> Codes:
    """Return how often each of `parts` equal parts is drawn in times * parts draws: (draws, parts)."""
    if rng is None or parts == 1:
        return np.repeat(times[:, None], parts, axis=1)
    return rng.multinomial(times * parts, np.full(parts, 1 / parts))


def estimate(statistic: Callable[[int], Array], draws: Draws) -> Estimate | None:
    """Return a statistic with its intervals, or None where it is undefined.

    Args:
        statistic: given 0 for all cells, 1 for `here`, 2 for `beyond`, the statistic of each draw: (draws,);
            not a number where it is undefined.
        draws: which it was computed from.
    """
    value = float(statistic(0)[0])
    if not np.isfinite(value):
        return None
    here = _percentiles(statistic(1))
    beyond = None
    if here is not None and draws.beyond is not None:
        beyond = _widened(value, statistic(2), draws.subjects)
    return Estimate(value, here, beyond)


def _percentiles(found: Array) -> Interval | None:
    defined = found[np.isfinite(found)]
    if len(defined) < (1 - _UNDEFINED_MAX) * len(found):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _widened(value: float, found: Array, subjects: int) -> Interval | None:
    """Return the interval that few subjects allow.

    The bootstrap's spread of a mean of n subjects is too small by (n - 1) / n and taken for known. Student's
    interval mends both: for a mean of n subjects it is the t interval of their means.
    """
    defined = found[np.isfinite(found)]
    if len(defined) < (1 - _UNDEFINED_MAX) * len(found):
        return None
    spread = float(defined.std()) * np.sqrt(subjects / (subjects - 1)) * student(subjects - 1)
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
    return sum(term / freedom**power for power, term in enumerate(terms))
