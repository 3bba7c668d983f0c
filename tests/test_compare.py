"""A comparison's plan: which cells there are, and where they stand."""

from __future__ import annotations

import pytest

from lib_pg.compare import MOST_CELLS, CompareError, plan
from lib_pg.settings import Settings


def test_methods_stand_in_one_order_and_the_strip_has_the_last_that_is_guided() -> None:
    found = plan(Settings(weak_ratio=0.6), 7, ["AG", "CFG"], "0, 0.6", "5, 6")
    methods, strip = found.sheets
    assert [[(cell.label, cell.cfg_scale) for cell in row] for row in methods.rows] == [
        [("CFG", scale), ("AG, weak ratio 0.6", scale)] for scale in (5, 6)
    ]
    assert [[cell.label for cell in row] for row in strip.rows] == [
        ["AG, weak ratio 0", "AG, weak ratio 0.6"]
    ] * 2
    assert len(found.cells) == 4 + 2  # the strip's others are those of the methods


@pytest.mark.parametrize(("methods", "ratios"), [(["CFG"], "0, 1"), (["CFG", "PG"], " ")])
def test_there_is_no_strip_without_a_guided_method_or_without_ratios(methods: list[str], ratios: str) -> None:
    (sheet,) = plan(Settings(), 7, methods, ratios, "").sheets
    assert [row[0].cfg_scale for row in sheet.rows] == [7]


def test_a_cell_of_cfg_is_the_host_alone() -> None:
    (cell,) = plan(Settings(enabled=True, mode="AG"), 7, ["CFG"], "", "").cells
    assert cell.settings == {"enabled": False} and cell.weak_ratio is None


def test_the_number_of_cells_is_bounded() -> None:
    assert len(plan(Settings(weak_ratio=1), 7, ["PG"], f"0-1 [{MOST_CELLS}]", "").cells) == MOST_CELLS
    with pytest.raises(CompareError, match=f"{MOST_CELLS + 1} cells are asked for"):
        plan(Settings(weak_ratio=1), 7, ["CFG", "PG"], f"0-1 [{MOST_CELLS}]", "")
