"""What presets say of themselves is what the committed evidence says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib_pg.cli.evaluate.records import load
from lib_pg.cli.evaluate.report.compare import Comparison, compare
from lib_pg.cli.evaluate.report.study import study_of
from lib_pg.presets import ABOUT, BUILT_IN

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
RUNS = ("evidence.json", "evidence-equal-steps.json")


@pytest.fixture(scope="module")
def evidence() -> list[Comparison]:
    """Return all amounts of training of both runs: differences alone, no intervals."""
    return [each for run in RUNS for each in compare(study_of(load(RESULTS / run)), draws=2)]


def times_cfg_s(evidence: list[Comparison], method: str, better_alone: bool) -> list[float]:
    """Return a method's own best scale to CFG's, by amount of training."""
    ratios = []
    for each in evidence:
        found, cfg = each.find(method), each.baseline
        assert found is not None and found.more_volume is not None and cfg is not None
        if found.more_volume.value > 0 or not better_alone:
            ratios.append(found.front.scale / cfg.front.scale)
    return ratios


def test_best_scales_are_those_of_the_evidence(evidence: list[Comparison]) -> None:
    always = times_cfg_s(evidence, "CFG early, None", better_alone=False)
    assert f"{min(always):.1f} to {max(always):.1f} times that of CFG" in ABOUT["Keep the prompt"]
    where_better = {f"{each:.1f}" for each in times_cfg_s(evidence, "PG early, None", better_alone=True)}
    assert where_better == {*re.findall(r"its best was ([\d.]+) times CFG", ABOUT["Half price"])}


def test_keep_the_prompt_is_better_nearly_everywhere_and_the_others_lose(evidence: list[Comparison]) -> None:
    def gains(method: str) -> list[float]:
        return [
            found.more_volume.value for each in evidence if (found := each.find(method)) and found.more_volume
        ]

    assert len(evidence) == 10
    assert sum(gain > 0 for gain in gains("CFG early, None")) == 9
    assert sum(gain > 0 for gain in gains("PG 0.5")) == 1
    assert sum(gain > 0 for gain in gains("PG early, None")) == 2


def test_all_can_be_used() -> None:
    assert set(ABOUT) < set(BUILT_IN)
    assert all(settings.in_use() for settings in BUILT_IN.values())
    assert not any(settings.enabled for settings in BUILT_IN.values())
