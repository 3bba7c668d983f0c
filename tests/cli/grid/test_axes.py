"""Axes as the WebUIs write them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.networks import LoraFile
from lib_pg.cli.grid.axes import axis_of, cells_of
from lib_pg.cli.main import _parser

VALUES = {
    ("weak-ratio", "0, 0.5,1"): [0.0, 0.5, 1.0],
    ("weak_ratio", "0-1 (+0.25)"): [0.0, 0.25, 0.5, 0.75, 1.0],
    ("--weak-ratio", "1-0 (-0.5)"): [1.0, 0.5, 0.0],
    ("weak-ratio", "0-1 [5], 0.1"): [0.0, 0.25, 0.5, 0.75, 1.0, 0.1],
    ("weak-ratio", "0.1-0.4 (+0.1)"): [0.1, 0.2, 0.3, 0.4],
    ("scale", "-1-1"): [-1.0, 0.0, 1.0],
    ("steps", "1-3"): [1, 2, 3],
    ("steps", "3-1"): [3, 2, 1],
    ("steps", "10-20 (+5)"): [10, 15, 20],
    ("steps", "1-10 [4]"): [1, 4, 7, 10],
    ("steps", "1-10 [3]"): [1, 5, 10],  # as the WebUIs count
    ("mode", "PG, AG,CFG"): ["PG", "AG", "CFG"],
    ("prompt", '"a dog, big", 1-3'): ["a dog, big", "1-3"],
    ("lora", "a.safetensors:0.5"): [[LoraFile(Path("a.safetensors"), 0.5)]],
}


@pytest.mark.parametrize("given", VALUES)
def test_values(given: tuple[str, str]) -> None:
    assert [value for _, value in axis_of(given).fields] == VALUES[given]


BAD = {
    ("weak-ration", "1"): "is no axis",
    ("out", "a"): "is no axis",
    ("device", "cpu"): "is no axis",
    ("x", "1"): "is no axis",
    ("weak-ratio", ""): "no values",
    ("weak-ratio", "0-1 (-0.1)"): "leads nowhere",
    ("weak-ratio", "0-1 (+0)"): "leads nowhere",
    ("weak-ratio", "0-1 (+0.000001)"): "from 1 to 100 numbers",
    ("steps", "1-999999999999999999"): "from 1 to 100 numbers",
    ("steps", "1-5 [999999]"): "999999.*from 1 to 100 numbers",
    ("steps", "1-60, 61-120"): "over 100 values",
    ("steps", "1,1"): "twice",
    ("steps", "1\n2"): "line break",
    ("steps", "1.5"): "invalid int",
    ("steps", "1-2 (+0.5)"): "whole numbers",
    ("mode", "XX"): "invalid choice",
}


@pytest.mark.parametrize("given", BAD)
def test_what_is_no_axis_is_refused(given: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=BAD[given]):
        axis_of(given)


def test_cells_have_their_own_options_and_are_bounded() -> None:
    options = _parser().parse_args(["grid", "--x", "steps", "1", "--scale", "3"])
    axes = [axis_of(("steps", "5, 6")), axis_of(("dtype", "float32, bfloat16")), None]
    cells = cells_of(options, axes)
    assert {(cell.place, cell.options.steps, cell.options.dtype, cell.options.scale) for cell in cells} == {
        ((x, y, 0), steps, dtype, 3.0)
        for x, steps in enumerate((5, 6))
        for y, dtype in enumerate(("float32", "bfloat16"))
    }
    assert [cell.options.dtype for cell in cells] == sorted(cell.options.dtype for cell in cells)
    with pytest.raises(UsageError, match="same option"):
        cells_of(options, [axes[0], axes[0], None])
    with pytest.raises(UsageError, match="10000 cells"):
        cells_of(options, [axis_of(("steps", "1-100")), axis_of(("seed", "1-100")), None])
