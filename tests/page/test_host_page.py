"""What the host's own components mean for the coming picture."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lib_pg.page.host_page import HostPage
from lib_pg.page.situation import SecondPass, Situation

IDS = {
    "txt2img_prompt": "a cat",
    "txt2img_neg_prompt": "blurry",
    "txt2img_styles": [],
    "txt2img_steps": 20,
    "txt2img_cfg_scale": 7.0,
    "txt2img_hr-checkbox": False,
    "hires_prompt": "",
    "txt2img_hires_steps": 0,
    "txt2img_hr_cfg": 5.0,
    "txt2img_enable-checkbox": False,
    "txt2img_checkpoint": "",
    "txt2img_switch_at": 0.8,
    "script_list": 0,
    "script_txt2img_xyz_plot_x_type": 1,
    "script_txt2img_xyz_plot_y_type": 0,
    "script_txt2img_xyz_plot_z_type": 0,
}
AXES = ["Nothing", "Seed", "[PG] Weak ratio", "CFG Scale", "Steps", "Prompt S/R", "[PG] Mode"]
PLAIN = Situation(prompt="a cat", negative="blurry", cfg_scale=7.0, steps=20)


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modules", None)
    monkeypatch.delitem(sys.modules, "networks", raising=False)


def page(ids: Any, tab: str = "txt2img", pairs: bool = False) -> HostPage:
    """Return the page of a tab after the host has made these components, in this order."""
    made = HostPage(tab)
    lists = {"script_list": ["None", "Prompt matrix", "X/Y/Z plot"]}
    for elem_id in ids:
        choices: list[Any] = lists.get(elem_id, AXES if "xyz" in elem_id else [])
        if pairs:  # as later versions of gradio keep them
            choices = [(choice, choice) for choice in choices]
        assert not made.is_whole
        made.note(SimpleNamespace(elem_id=elem_id, choices=choices), elem_id)
    made.note(SimpleNamespace(), f"{tab}_gallery")
    assert made.is_whole
    return made


def situation(changes: dict[str, Any], pairs: bool = False) -> Situation:
    """Return what is read where these components have other values, whatever order the host made them in."""
    values = {**IDS, **changes}
    made = page(reversed(values), pairs=pairs)
    assert [component.elem_id for component in made.components] == list(reversed(values))
    return made.situation(list(reversed(values.values())))


def test_a_page_at_first() -> None:
    assert situation({}) == PLAIN


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"txt2img_hr-checkbox": True}, {"second_pass": SecondPass("a cat", 5.0)}),
        (
            {"txt2img_hr-checkbox": True, "hires_prompt": "a dog"},
            {"second_pass": SecondPass("a dog", 5.0)},
        ),
        (
            {"txt2img_hr-checkbox": True, "txt2img_hires_steps": 6},
            {"second_pass": SecondPass("a cat", 5.0, 6)},
        ),
        ({"hires_prompt": "a dog"}, {}),
        ({"txt2img_prompt": "a __cat__"}, {"prompt": "a __cat__", "may_change": True}),
        ({"txt2img_enable-checkbox": True, "txt2img_checkpoint": "xl"}, {"refiner": True}),
        ({"txt2img_enable-checkbox": True, "txt2img_checkpoint": "None"}, {}),
        (
            {"txt2img_enable-checkbox": True, "txt2img_checkpoint": "xl", "txt2img_switch_at": 1.0},
            {},
        ),
        ({"txt2img_checkpoint": "xl"}, {}),
        ({"script_txt2img_xyz_plot_x_type": 2}, {}),
        ({"script_list": 2}, {}),
        ({"script_list": 1, "script_txt2img_xyz_plot_x_type": 2}, {}),
        (
            {"script_list": 2, "script_txt2img_xyz_plot_x_type": 2, "script_txt2img_xyz_plot_z_type": 6},
            {"axes": ("weak_ratio", "mode")},
        ),
        (
            {"script_list": 2, "script_txt2img_xyz_plot_x_type": 3, "script_txt2img_xyz_plot_y_type": 4},
            {"cfg_scale": None, "steps": None},
        ),
        ({"script_list": 2, "script_txt2img_xyz_plot_z_type": 5}, {"may_change": True}),
        ({"script_list": None, "script_txt2img_xyz_plot_x_type": None}, {}),
    ],
)
@pytest.mark.parametrize("pairs", [False, True])
def test_what_is_on_the_page(changes: dict[str, Any], expected: dict[str, Any], pairs: bool) -> None:
    assert situation(changes, pairs) == Situation(**{**PLAIN.__dict__, **expected})


def test_img2img_has_no_second_pass_and_runs_a_part_of_its_steps() -> None:
    made = page(["img2img_prompt", "img2img_steps", "hires_prompt"], "img2img")
    assert [component.elem_id for component in made.components] == ["img2img_prompt", "img2img_steps"]
    assert made.situation(["a cat", 20]) == Situation(prompt="a cat", steps=20, runs_all_steps=False)


def test_a_page_is_not_whole_before_its_last_part() -> None:
    made = HostPage("txt2img")
    for elem_id in IDS:
        made.note(SimpleNamespace(), elem_id)
    assert not made.is_whole
