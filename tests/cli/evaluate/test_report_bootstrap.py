"""Intervals on data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lib_pg.cli.evaluate.report.bootstrap import (
    Array,
    Draws,
    Estimate,
    Interval,
    draw,
    estimate,
    student,
)

DRAWS = 400


def crossed(subjects: int, prompts: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of every prompt with every seed for every subject."""
    cells = np.array(
        [(subject, prompt) for subject in range(subjects) for prompt in range(prompts) for _ in range(seeds)]
    )
    return cells[:, 0], cells[:, 1]


def mean(scores: Array, draws: Draws) -> Estimate:
    means = draws.means(scores[None])
    return estimate(lambda part: means[part][:, 0], draws)


def test_every_draw_is_a_mean() -> None:
    draws = draw(*crossed(3, 4, 2), DRAWS)
    for weights in draws.weights.values():
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)


def test_subjects_count_alike_and_so_do_the_prompts_of_one() -> None:
    """Subject 0 has five pictures of two prompts, subject 1 has one."""
    subjects, prompts = np.array([0, 0, 0, 0, 0, 1]), np.array([0, 0, 0, 0, 1, 0])
    whole = draw(subjects, prompts, DRAWS).weights["whole"][0]
    np.testing.assert_allclose(whole, [1 / 16] * 4 + [1 / 4, 1 / 2])


def test_within_a_subject_every_draw_keeps_the_subjects_share() -> None:
    subjects, prompts = crossed(3, 5, 2)
    draws = draw(subjects, prompts, DRAWS)
    for subject in range(3):
        np.testing.assert_allclose(draws.weights["here"][:, subjects == subject].sum(axis=1), 1 / 3)
    shares = {round(float(share) * 3) for share in draws.weights["beyond"][:, subjects == 0].sum(axis=1)}
    assert shares == {0, 1, 2, 3}


def test_pictures_of_one_prompt_stand_or_fall_together() -> None:
    """Where all pictures of a prompt are alike, a hundred of them tell no more than one."""
    rng = np.random.default_rng(0)
    by_prompt = rng.normal(size=12)
    few = mean(by_prompt, draw(*crossed(1, 12, 1), DRAWS)).here
    many = mean(np.repeat(by_prompt, 100), draw(*crossed(1, 12, 100), DRAWS)).here
    assert few is not None and many is not None
    assert many.high - many.low == pytest.approx(few.high - few.low, rel=0.15)


def test_the_interval_of_a_mean_is_the_textbooks() -> None:
    scores = np.random.default_rng(1).normal(size=400)
    found = mean(scores, draw(*crossed(1, 400, 1), 4000))
    assert found.here is not None
    half = 1.96 * scores.std() / np.sqrt(400)
    assert found.value == pytest.approx(scores.mean())
    assert found.here.low == pytest.approx(scores.mean() - half, abs=0.08 * half)
    assert found.here.high == pytest.approx(scores.mean() + half, abs=0.08 * half)


def test_the_interval_for_other_subjects_is_students() -> None:
    """Three subjects without any spread of their own: the t interval of three numbers."""
    by_subject = np.array([0.1, 0.5, 0.3])
    found = mean(np.repeat(by_subject, 20), draw(*crossed(3, 20, 1), 20_000)).beyond
    assert found is not None
    half = 4.3027 * by_subject.std(ddof=1) / np.sqrt(3)
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), rel=0.03)


def test_a_single_subject_says_nothing_of_others() -> None:
    assert mean(np.arange(6.0), draw(*crossed(1, 6, 1), DRAWS)).beyond is None


def test_one_picture_a_subject_says_nothing_of_other_pictures() -> None:
    """An interval of no width would claim every difference."""
    assert mean(np.array([0.5]), draw(*crossed(1, 1, 1), DRAWS)) == Estimate(0.5, None, None, 1.0)
    found = mean(np.array([0.1, 0.5, 0.3]), draw(*crossed(3, 1, 1), DRAWS))
    assert found.here is None and found.beyond is not None
    for shape in ((1, 2, 1), (1, 1, 2)):
        assert mean(np.arange(2.0), draw(*crossed(*shape), DRAWS)).here is not None


def test_a_statistic_that_is_undefined_has_no_interval() -> None:
    draws = draw(*crossed(2, 5, 1), 100)
    never = estimate(lambda part: np.full(1 if part == "whole" else 100, np.nan), draws)
    assert np.isnan(never.value) and never.here is None and never.beyond is None and never.defined == 0

    def in_some(count: int) -> Estimate:
        values = np.where(np.arange(100) < count, np.arange(100.0), np.nan)
        return estimate(lambda part: np.array([1.0]) if part == "whole" else values, draws)

    assert in_some(90) == Estimate(1.0, None, None, 0.9)
    here = in_some(96).here
    assert here is not None
    assert (here.low, here.high) == pytest.approx((0.025 * 95, 0.975 * 95))


def test_the_same_seed_draws_the_same() -> None:
    one, other = (draw(*crossed(3, 4, 2), DRAWS, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.weights["here"], other.weights["here"])


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (2, 4.303), (12, 2.179), (29, 2.045), (10_000, 1.960)]
)
def test_students_quantiles(freedom: int, expected: float) -> None:
    assert student(freedom) == pytest.approx(expected, abs=1e-3)


def test_coverage() -> None:
    """Of 300 studies of three subjects, 95 % hold the truth: that of their subjects, that of all subjects.

    What resampling three subjects gives without Student's factor holds it far too seldom.
    """
    rng = np.random.default_rng(2)
    codes = crossed(3, 16, 2)
    plain, here, beyond = 0, 0, 0
    for study in range(300):
        of_subjects = rng.normal(0.2, 0.1, size=3)
        scores = (
            np.repeat(of_subjects, 32)
            + np.repeat(rng.normal(scale=0.1, size=48), 2)
            + rng.normal(scale=0.1, size=96)
        )
        draws = draw(*codes, DRAWS, seed=study)
        found = mean(scores, draws)
        low, high = np.quantile(draws.weights["beyond"] @ scores, [0.025, 0.975])
        plain += low <= 0.2 <= high
        here += _holds(found.here, float(of_subjects.mean()))
        beyond += _holds(found.beyond, 0.2)
    assert 0.91 <= here / 300 <= 0.99
    assert beyond / 300 >= 0.93
    assert plain / 300 < 0.88


def test_a_prompt_that_is_hard_is_hard_for_all_subjects() -> None:
    """Prompts that three subjects share are as few as they are; numbered apart they look thrice as many."""
    rng = np.random.default_rng(4)
    subjects, prompts = crossed(3, 20, 1)
    shared, apart = 0, 0
    for study in range(300):
        scores = np.tile(rng.normal(0.2, 0.1, size=20), 3) + rng.normal(scale=0.02, size=60)
        shared += _holds(mean(scores, draw(subjects, prompts, DRAWS, study)).here, 0.2)
        apart += _holds(mean(scores, draw(subjects, prompts + 20 * subjects, DRAWS, study)).here, 0.2)
    assert 0.9 <= shared / 300 <= 0.98
    assert apart / 300 < 0.85


def _holds(interval: Interval | None, truth: float) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high
