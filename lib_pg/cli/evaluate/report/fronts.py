"""What a method reaches over its guidance scales: alignment with the prompt against fidelity to the subject.

Arrays are (draws, scales), the scales in ascending order. Between neighbouring scales both scores are taken
to go straight.
"""

from __future__ import annotations

import numpy as np

from lib_pg.cli.evaluate.report.bootstrap import Array


def best_at(level: Array, along: Array, wanted: Array) -> Array:
    """Return the greatest `wanted` at which `along` is at least a level.

    Args:
        level: (draws,).
        along: (draws, scales), such as alignment.
        wanted: (draws, scales), such as fidelity.

    Returns:
        (draws,); not a number where no scale reaches the level.
    """
    asked = level[:, None]
    vertices = np.where(along >= asked, wanted, -np.inf)
    one, other = along[:, :-1], along[:, 1:]
    crosses = (one < asked) != (other < asked)
    part = (asked - one) / np.where(crosses, other - one, 1.0)
    between = np.where(crosses, wanted[:, :-1] + part * (wanted[:, 1:] - wanted[:, :-1]), -np.inf)
    best = np.concatenate([vertices, between], axis=1).max(axis=1)
    return np.where(np.isfinite(best), best, np.nan)


def hypervolume(one: Array, other: Array, reference: tuple[float, float]) -> Array:
    """Return the area that the scales' points dominate, down to a reference point: (draws,).

    It is what lies below and left of at least one point and above and right of the reference. Nothing is
    interpolated.
    """
    x = np.maximum(one - reference[0], 0.0)
    y = np.maximum(other - reference[1], 0.0)
    order = np.argsort(-x, axis=1, kind="stable")
    x, y = np.take_along_axis(x, order, axis=1), np.take_along_axis(y, order, axis=1)
    widths = x - np.concatenate([x[:, 1:], np.zeros_like(x[:, :1])], axis=1)
    area: Array = (widths * np.maximum.accumulate(y, axis=1)).sum(axis=1)
    return area


def own_best(one: Array, other: Array, reference: tuple[float, float]) -> int:
    """Return the scale whose single point dominates the greatest area, of means (scales,)."""
    return int(np.argmax(np.maximum(one - reference[0], 0.0) * np.maximum(other - reference[1], 0.0)))
