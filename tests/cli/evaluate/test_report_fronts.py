"""Fronts on numbers that can be checked by hand, or by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.cli.evaluate.report.fronts import best_at, hypervolume, own_best

ALIGNMENT = np.array([[0.2, 0.6, 0.8, 0.7]])
FIDELITY = np.array([[0.9, 0.7, 0.4, 0.5]])
UNIT = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0.0, 0.9),  # below all: the best there is
        (0.2, 0.9),  # at a scale
        (0.3, 0.85),  # a quarter of the way from 0.2 to 0.6
        (0.6, 0.7),
        (0.75, 0.475),  # on both sides of the third scale; the way from 0.6 to 0.8 gives 0.475, back 0.45
        (0.8, 0.4),
        (0.81, np.nan),  # out of reach
    ],
)
def test_the_best_fidelity_at_an_alignment(level: float, expected: float) -> None:
    found = best_at(np.array([level]), ALIGNMENT, FIDELITY)
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


def test_more_alignment_than_asked_for_does_no_harm() -> None:
    """A scale that is better in both counts even where the curve crosses the level lower."""
    found = best_at(np.array([0.3]), np.array([[0.1, 0.5, 0.9]]), np.array([[0.2, 0.4, 0.8]]))
    np.testing.assert_allclose(found, [0.8])


def test_one_scale_is_a_front_too() -> None:
    found = best_at(np.array([0.3, 0.7]), np.array([[0.5], [0.5]]), np.array([[0.4], [0.4]]))
    np.testing.assert_array_equal(found, [0.4, np.nan])


def test_draws_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    alignment, fidelity, level = rng.random((50, 6)), rng.random((50, 6)), rng.random(50)
    together = best_at(level, alignment, fidelity)
    alone = [best_at(level[i : i + 1], alignment[i : i + 1], fidelity[i : i + 1])[0] for i in range(50)]
    np.testing.assert_array_equal(together, alone)
    areas = hypervolume(alignment, fidelity, (0.1, 0.2))
    np.testing.assert_array_equal(
        areas, [hypervolume(alignment[i : i + 1], fidelity[i : i + 1], (0.1, 0.2))[0] for i in range(50)]
    )


def test_the_area_of_two_points() -> None:
    """0.5 x 0.8 and 0.9 x 0.3 share 0.5 x 0.3."""
    found = hypervolume(np.array([[0.5, 0.9]]), np.array([[0.8, 0.3]]), (0.0, 0.0))
    np.testing.assert_allclose(found, [0.4 + 0.27 - 0.15])


@given(UNIT, st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_the_area_is_the_number_of_squares_below_a_point(
    points: list[tuple[int, int]], reference: tuple[int, int]
) -> None:
    squares = {
        (x, y) for right, top in points for x in range(reference[0], right) for y in range(reference[1], top)
    }
    x, y = np.array(points, dtype=np.float64).T
    assert hypervolume(x[None], y[None], reference)[0] == len(squares)


def test_the_own_best_scale_covers_the_most_by_itself() -> None:
    assert own_best(ALIGNMENT[0], FIDELITY[0], (0.0, 0.0)) == 1
    assert own_best(ALIGNMENT[0], FIDELITY[0], (0.0, 0.45)) == 1
    assert own_best(ALIGNMENT[0], FIDELITY[0], (0.65, 0.0)) == 2
