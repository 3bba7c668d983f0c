"""The formula, the omega schedules and the interval."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.guidance import guide, holds_a_step, is_inside, weak_conditioning, weak_ratio_at

ratios = st.floats(0.0, 1.0)
steps = st.integers(1, 200)


def test_guide_extrapolates_from_the_weak_to_the_strong_prediction() -> None:
    weak, strong = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 0.0])
    assert torch.equal(guide(weak, strong, 0.0), weak)
    assert torch.equal(guide(weak, strong, 1.0), strong)
    assert torch.equal(guide(weak, strong, 7.5), torch.tensor([16.0, 13.0]))


@pytest.mark.parametrize(
    ("mode", "weak_prompt", "conditioning"),
    [
        ("PG", "Null", "null"),
        ("PG", "Negative", "negative"),
        ("AG", "Null", "prompt"),
        ("AG", "Negative", "prompt"),
        ("CFG", "Null", "negative"),
    ],
)
def test_what_the_weak_rows_read(mode: str, weak_prompt: str, conditioning: str) -> None:
    assert weak_conditioning(mode, weak_prompt) == conditioning  # type: ignore[arg-type]


@given(ratios, ratios, steps.filter(lambda count: count > 1))
def test_schedules_start_and_end_where_they_should_to_the_bit(first: float, last: float, count: int) -> None:
    for schedule in ("Linear", "Cosine"):
        assert weak_ratio_at(0, count, schedule, first, last) == first  # type: ignore[arg-type]
        assert weak_ratio_at(count - 1, count, schedule, first, last) == last  # type: ignore[arg-type]
    assert weak_ratio_at(count - 1, count, "Constant", first, last) == first


@given(ratios, ratios, st.integers(3, 200), st.sampled_from(["Linear", "Cosine"]))
def test_schedules_are_monotonic_and_stay_between_their_ends(
    first: float, last: float, count: int, schedule: str
) -> None:
    values = [weak_ratio_at(step, count, schedule, first, last) for step in range(count)]  # type: ignore[arg-type]
    assert all(min(first, last) - 1e-12 <= value <= max(first, last) + 1e-12 for value in values)
    signs = [(b - a) * (last - first) >= -1e-12 for a, b in pairwise(values)]
    assert all(signs)


def test_schedule_midpoints() -> None:
    assert weak_ratio_at(5, 11, "Linear", 1.0, 0.0) == pytest.approx(0.5)
    assert weak_ratio_at(5, 11, "Cosine", 1.0, 0.0) == pytest.approx(0.5)
    assert weak_ratio_at(2.5, 11, "Linear", 1.0, 0.0) == pytest.approx(0.75)
    assert weak_ratio_at(2.5, 11, "Cosine", 1.0, 0.0) == pytest.approx(0.5 + 0.5**1.5)
    assert weak_ratio_at(0, 1, "Linear", 0.3, 0.9) == 0.3
    assert weak_ratio_at(-1, 11, "Linear", 0.3, 0.9) == 0.3
    assert weak_ratio_at(99, 11, "Cosine", 0.3, 0.9) == 0.9


@given(steps)
def test_the_default_interval_has_every_step(count: int) -> None:
    assert all(is_inside(step, count, 0.0, 1.0) for step in range(count))


@given(steps, ratios)
def test_an_empty_interval_has_none(count: int, at: float) -> None:
    assert not any(is_inside(step, count, at, at) for step in range(count))


@given(steps, st.integers(0, 100), st.integers(0, 100))
def test_neighbouring_intervals_share_no_step_and_leave_none_out(count: int, a: int, b: int) -> None:
    low, high = sorted((a / 100, b / 100))
    for step in range(count):
        inside = [is_inside(step, count, *ends) for ends in ((0.0, low), (low, high), (high, 1.0))]
        assert sum(inside) == 1


def test_an_interval_counts_whole_steps() -> None:
    assert [step for step in range(10) if is_inside(step, 10, 0.3, 0.8)] == [3, 4, 5, 6, 7]
    assert [step for step in range(7) if is_inside(step, 7, 0.5, 1.0)] == [4, 5, 6]


@given(steps, st.integers(0, 100), st.integers(0, 100), st.floats(0.0, 1000.0))
def test_steps_beyond_the_last_belong_to_it(count: int, start: int, end: int, more: float) -> None:
    """Adaptive samplers take more steps than they were asked for."""
    ends = start / 100, end / 100
    assert is_inside(count + more, count, *ends) == is_inside(count - 1, count, *ends)


@pytest.mark.parametrize(
    ("count", "start", "end", "holds"),
    [
        (8, 0.99, 1.0, False),
        (8, 0.87, 1.0, True),
        (100, 0.99, 1.0, True),
        (8, 0.5, 0.5, False),
        (8, 0.13, 0.2, False),
    ],
)
def test_an_interval_may_hold_no_step(count: int, start: float, end: float, holds: bool) -> None:
    assert holds_a_step(count, start, end) == holds
