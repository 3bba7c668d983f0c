"""Axes of the X/Y/Z plot: their values are checked first and never outlive their cell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lib_pg.page.axes import (
    axes,
    cell_of,
    overrides_of,
    register,
    register_axes,
    settings_of_axes,
    with_overrides,
)
from lib_pg.settings import CONTROLS, DEFAULTS


class Processing(SimpleNamespace):
    """Our stand-in for the host's `p`, as far as users are told by it."""

    def __init__(self) -> None:
        super().__init__(comments=[], extra_generation_params={})

    def comment(self, text: str) -> None:
        self.comments.append(text)


@dataclass
class Option:
    """Our stand-in for the host's class."""

    label: str
    type: Callable[[str], Any]
    apply: Callable[[Any, Any, Any], None]
    confirm: Callable[[Any, list[Any]], None] | None = None
    choices: Callable[[], list[str]] | None = None


OPTIONS: dict[str, Option] = {option.label: option for option in axes(Option)}


def test_the_order_is_the_published_one() -> None:
    assert list(OPTIONS) == [
        "[PG] Enabled", "[PG] Mode", "[PG] Weak ratio", "[PG] Weak prompt", "[PG] Schedule",
        "[PG] Weak ratio end", "[PG] Start", "[PG] End", "[PG] Outside", "[PG] Networks", "[PG] Hires",
        "[PG] Hires weak ratio", "[PG] Base checkpoint",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "texts"),
    [
        ("Enabled", ["True", "false"]),
        ("Mode", ["PG", "AG", "CFG"]),
        ("Weak ratio", ["0", "0.5", "1"]),
        ("Start", ["0.9"]),
        ("End", ["0.1"]),
        ("Networks", ["", "a, b"]),
        ("Base checkpoint", ["None"]),
    ],
)
def test_good_values_pass(label: str, texts: list[str]) -> None:
    option = OPTIONS[f"[PG] {label}"]
    values = [option.type(text) for text in texts]
    assert option.confirm
    option.confirm(Processing(), values)
    assert values == [option.type(text) for text in texts]


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(Warning=lambda message: None))


@pytest.mark.parametrize(
    ("label", "text", "words"),
    [
        ("Enabled", "maybe", ["'maybe'", "true or false"]),
        ("Mode", "pg", ["'pg'", "did you mean 'PG'?"]),
        ("Mode", "XY", ["'XY'", "'PG', 'AG', 'CFG'"]),
        ("Weak ratio", "1.5", ["1.5", "from 0 to 1"]),
        ("Weak ratio", "nan", ["nan", "from 0 to 1"]),
        ("Networks", "x" * 3000, ["2000"]),
        ("Base checkpoint", "other", ["none of the host's"]),
    ],
)
def test_bad_values_leave_no_cell_and_are_named_with_their_range(
    label: str, text: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An error would do, too, but for that the hosts print a traceback."""
    option, p = OPTIONS[f"[PG] {label}"], Processing()
    values = [option.type(text), *good(label, option)]
    assert option.confirm
    option.confirm(p, values)
    assert values == []
    (told,) = p.comments
    for word in ["no grid is made", f"[PG] {label}", *words]:
        assert word in told
    assert told in f"Personalization Guidance: {capsys.readouterr().out}".replace(
        "[Personalization Guidance] ", ""
    )
    assert list(p.extra_generation_params) == ["Personalization Guidance"]  # for callers of the API


def good(label: str, option: Option) -> list[Any]:
    texts = {"Enabled": "True", "Mode": "PG", "Networks": "a", "Base checkpoint": "None"}
    return [option.type(texts.get(label, "0.5"))]


@pytest.mark.parametrize("name", [name for name, control in CONTROLS.items() if control.kind == "choice"])
def test_choices_are_offered(name: str) -> None:
    choices = OPTIONS[f"[PG] {CONTROLS[name].label}"].choices
    assert choices and choices() == list(CONTROLS[name].choices)


def test_an_override_stays_in_its_cell() -> None:
    p = SimpleNamespace()
    cells = []
    for ratio in (0.1, 0.2):
        for mode in ("PG", "AG"):
            cell = copy(p)
            OPTIONS["[PG] Weak ratio"].apply(cell, ratio, [])
            OPTIONS["[PG] Mode"].apply(cell, mode, [])
            cells.append(cell)
    later = copy(p)
    assert not hasattr(p, "pg_overrides") and overrides_of(later) == {}
    assert overrides_of(cells[1]) == {"weak_ratio": 0.1, "mode": "AG"}
    assert overrides_of(cells[2]) == {"weak_ratio": 0.2, "mode": "PG"}


def test_a_copy_made_after_an_axis_is_not_shared() -> None:
    outer = SimpleNamespace()
    OPTIONS["[PG] Mode"].apply(outer, "AG", [])
    inner = copy(outer)
    OPTIONS["[PG] Weak ratio"].apply(inner, 0.1, [])
    assert overrides_of(outer) == {"mode": "AG"}


@pytest.mark.parametrize(
    ("before", "overrides", "enabled"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"weak_ratio": 0.1}, True),
        (False, {"mode": "AG"}, True),
        (False, {"mode": "CFG"}, False),
        (True, {"mode": "CFG"}, True),
        (True, {"enabled": False, "weak_ratio": 0.1}, False),
        (False, {"enabled": True}, True),
    ],
)
def test_an_axis_in_use_switches_on(before: bool, overrides: dict[str, Any], enabled: bool) -> None:
    settings = {**DEFAULTS, "enabled": before}
    kept, given = dict(settings), dict(overrides)
    merged = with_overrides(settings, overrides)
    assert merged["enabled"] is enabled
    assert {**merged, **overrides} == merged
    assert settings == kept and overrides == given


def test_enabled_becomes_a_switch() -> None:
    p = SimpleNamespace()
    OPTIONS["[PG] Enabled"].apply(p, "False", [])
    assert overrides_of(p) == {"enabled": False}


def test_registering_twice_adds_once_and_keeps_the_others() -> None:
    seed = Option("Seed", int, lambda p, value, values: None)
    module = SimpleNamespace(AxisOption=Option, axis_options=[seed])
    listed = module.axis_options
    register(module)
    register(module)
    assert module.axis_options is listed
    assert [option.label for option in listed] == ["Seed", *OPTIONS]


def test_a_cell_is_called_by_its_axes() -> None:
    p = SimpleNamespace()
    assert cell_of(p) == ""
    OPTIONS["[PG] Mode"].apply(p, "AG", [])
    OPTIONS["[PG] Weak ratio"].apply(p, 0.1, [])
    assert cell_of(p) == "[PG] Mode AG, [PG] Weak ratio 0.1"


def test_the_module_s_grids_are_drawn_by_its_own_function_once_however_often_registered() -> None:
    drawn: list[Any] = []

    def draw(p: Any, xs: list[int]) -> Any:
        drawn.append(xs)
        return SimpleNamespace(comments="", extra_generation_params={})

    module = SimpleNamespace(AxisOption=Option, axis_options=[], draw_xyz_grid=draw)
    register(module)
    register(module)
    module.draw_xyz_grid(SimpleNamespace(), xs=[1])
    assert drawn == [[1]]


def test_the_host_s_module_is_found_by_the_name_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    xyz = SimpleNamespace(AxisOption=Option, axis_options=[])
    other = SimpleNamespace(path="/webui/scripts/other.py", module=SimpleNamespace())
    host = ModuleType("modules")
    host.scripts = SimpleNamespace(  # type: ignore[attr-defined]
        scripts_data=[other, SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=xyz)]
    )
    monkeypatch.setitem(sys.modules, "modules", host)
    register_axes()
    assert len(xyz.axis_options) == len(CONTROLS)


def test_a_host_without_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = ModuleType("modules")
    host.scripts = SimpleNamespace(scripts_data=[])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules", host)
    register_axes()
    assert "no X/Y/Z plot" in capsys.readouterr().out


def test_labels_say_which_settings_axes_set() -> None:
    assert settings_of_axes(list(OPTIONS)) == list(CONTROLS)
    assert settings_of_axes(["Seed", "[PG] End", "[PG] Later"]) == ["end"]
