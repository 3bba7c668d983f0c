"""Methods beside CFG, on studies whose answer is built in."""

from __future__ import annotations

import pytest

from lib_pg.cli.evaluate.report.bootstrap import Estimate
from lib_pg.cli.evaluate.report.compare import Comparison, compare
from lib_pg.cli.evaluate.report.words import NOT_REACHED, NOT_TOLD, verdict
from tests.cli.evaluate.report_studies import study

DRAWS = 400
BEST = 1  # place of a scale that all methods reach


def compared(gains: dict[str, float], **how: object) -> Comparison:
    (found,) = compare(study(gains, **how), DRAWS)
    return found


def there(found: Estimate | None) -> Estimate:
    assert found is not None and found.here is not None
    return found


def test_a_method_that_does_the_same_differs_by_exactly_nothing() -> None:
    """Unpaired, two intervals that subjects make wide would say the same of any method."""
    same = compared({"CFG": 0.0, "PG 0.5": 0.0}, noise=0).find("PG 0.5")
    assert same is not None
    for found in (*same.more_fidelity, *same.same_scale, same.more_alignment, same.more_volume):  # type: ignore[misc]
        assert there(found).value == 0
        for interval in (there(found).here, there(found).beyond):
            assert interval is not None
            assert (interval.low, interval.high) == pytest.approx((0, 0), abs=1e-12)
            assert not interval.excludes_zero()


def test_a_difference_is_found_and_has_its_size() -> None:
    better = compared({"CFG": 0.0, "PG 0.5": 0.06}, prompts=40).find("PG 0.5")
    assert better is not None
    found = there(better.more_fidelity[BEST])
    assert found.here is not None and found.beyond is not None
    assert found.here.low < 0.06 < found.here.high and found.here.excludes_zero()
    assert found.beyond.low <= found.here.low and found.here.high <= found.beyond.high
    assert found.here.high - found.here.low < 0.08
    assert found.value == pytest.approx(0.06, abs=0.02)


def test_what_is_worse_is_said_to_be_worse() -> None:
    worse = compared({"CFG": 0.0, "AG 0.5": -0.08}).find("AG 0.5")
    assert worse is not None
    for found in (*worse.more_fidelity[:3], worse.more_volume):
        interval = there(found).here
        assert interval is not None and interval.high < 0


def test_noise_is_not_taken_for_a_difference() -> None:
    """Twelve methods that differ by luck alone: about one in twenty intervals may miss zero."""
    gains = {"CFG": 0.0, **{f"method {number}": 0.0 for number in range(24)}}
    found = [each.more_fidelity[BEST] for each in compared(gains, prompts=16).findings[1:]]
    missed = sum(there(each).here.excludes_zero() for each in found)  # type: ignore[union-attr]
    assert missed <= 4


def test_pairing_narrows_the_interval() -> None:
    """The luck of a cell, which both methods share, is ten times theirs."""
    finding = compared({"CFG": 0.0, "PG 0.5": 0.0}, noise=0.01).find("PG 0.5")
    assert finding is not None
    paired, alone = there(finding.more_fidelity[BEST]).here, finding.fidelity.here
    assert paired is not None and alone is not None
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_a_method_that_does_not_reach_cfgs_alignment_is_not_compared_there() -> None:
    given = study({"CFG": 0.0, "PG 0.5": 0.3}, noise=0)
    (group,) = given.groups
    group.methods[1].scores["alignment"][:] -= 0.5
    (found,) = compare(given, DRAWS)
    finding = found.find("PG 0.5")
    assert finding is not None
    assert [verdict(each) for each in finding.more_fidelity] == [NOT_REACHED] * 4
    assert finding.more_alignment is not None and finding.more_volume is not None


def test_a_front_that_ends_where_cfgs_does_may_reach_it_or_not() -> None:
    """By luck alone one of two like methods ends lower: that it does not reach CFG would be too much."""
    finding = compared({"CFG": 0.0, "PG 0.5": 0.0}).find("PG 0.5")
    assert finding is not None
    assert verdict(finding.more_fidelity[-1]) == NOT_TOLD
    assert finding.more_fidelity[-1].here is None


def test_without_cfg_there_is_nothing_to_compare_with() -> None:
    found = compared({"PG 0.5": 0.0})
    assert found.baseline is None
    assert found.findings[0].more_fidelity == ()


def test_cfg_comes_first() -> None:
    assert [each.method for each in compared({"AG 0.5": 0.0, "CFG": 0.0}).findings] == ["CFG", "AG 0.5"]
