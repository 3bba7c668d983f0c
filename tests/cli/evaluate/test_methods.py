"""What is compared."""

from __future__ import annotations

import json

from lib_pg.cli.evaluate.methods import METHODS, SCALES, described
from lib_pg.guidance import weak_ratio_at
from lib_pg.settings import Settings


def test_every_method_has_its_own_name_and_the_same_scales() -> None:
    assert len({method.name for method in METHODS}) == len(METHODS)
    assert {method.scales for method in METHODS} == {SCALES}
    assert list(SCALES) == sorted(set(SCALES)) and min(SCALES) > 1  # at 1 nothing is guided
    assert all(method.settings.enabled and method.about for method in METHODS)


def test_no_two_methods_do_the_same() -> None:
    assert len({method.settings.in_use() for method in METHODS}) == len(METHODS)


def test_omega_is_tried_both_ways_and_both_values_of_outside() -> None:
    settings = [method.settings for method in METHODS]
    assert [each.mode for each in settings].count("CFG") == 1
    ways = {
        tuple(
            weak_ratio_at(step, 15, each.schedule, each.weak_ratio, each.weak_ratio_end) for step in (0, 14)
        )
        for each in settings
        if each.schedule != "Constant"
    }
    assert ways == {(1.0, 0.0), (0.0, 1.0)}
    assert {each.outside for each in settings if (each.start, each.end) != (0.0, 1.0)} == {"CFG", "None"}


def test_the_head_of_a_run_gives_the_settings_back() -> None:
    told = json.loads(json.dumps(described()))
    assert list(told) == [method.name for method in METHODS]
    for method in METHODS:
        assert Settings.from_dict(told[method.name]["settings"]) == method.settings
        assert tuple(told[method.name]["scales"]) == method.scales
