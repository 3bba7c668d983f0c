"""The accordion in a browser: its controls, the line and the presets, with the hosts' versions of gradio."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from lib_pg.presets import BUILT_IN
from lib_pg.settings import CONTROLS
from tests.browser.conftest import Server

if TYPE_CHECKING:
    from tests.browser.pages import Accordion

# `networks` is a text behind a list, seen by nobody; the others are seen at some time.
SEEN = [name for name in CONTROLS if name != "networks"]
CONDITIONAL = ("weak_ratio_end", "hires_weak_ratio")


def test_the_accordion_is_closed_at_first_and_has_a_tick(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.expect_open(False)
    accordion.header.click()
    accordion.expect_open(True)
    assert not accordion.part("enabled").get_by_role("checkbox").is_checked()


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_is_there_once(shown: Accordion, name: str) -> None:
    assert shown.page.locator(f"[id='pg_txt2img_{name}']").count() == 1
    shown.expect_shown(name, name in SEEN and name not in CONDITIONAL)


def test_each_end_of_a_schedule_and_ratio_of_a_pass_is_shown_where_it_is_used(
    open_page: Callable[..., Accordion],
) -> None:
    accordion = open_page()
    accordion.unfold()
    for choice, values, name in (
        ("schedule", {"Linear": True, "Constant": False, "Cosine": True}, "weak_ratio_end"),
        ("hires", {"Own": True, "Off": False, "Same": False}, "hires_weak_ratio"),
    ):
        accordion.expect_shown(name, False)
        for value, used in values.items():
            accordion.choose(choice, value)
            accordion.expect_shown(name, used)


def test_img2img_has_its_own_accordion_without_hires(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page(tab="img2img")
    accordion.unfold()
    for name in ("hires", "hires_weak_ratio"):
        accordion.expect_shown(name, False)
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:0.5>")
    accordion.expect_line("sks_dog 0.5 -> 0.35 in the weak branch")


def test_the_line_follows_prompt_tick_and_controls(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.expect_line("no network to weaken")
    accordion.type_prompt("<lora:sks_dog:1>")
    accordion.expect_line("sks_dog 1 -> 0.7 in the weak branch")
    accordion.set_number("weak_ratio", 0.25)
    accordion.expect_line("sks_dog 1 -> 0.25 in the weak branch")
    accordion.set_prompt("<lora:fast:1> <lora:detail:1:pg=7>")
    accordion.expect_line("fast is an accelerator by its name or file and is not weakened")
    accordion.expect_line("pg=7 is not a number from 0 to 1, so the settings decide")
    accordion.set_prompt("<lora:nobody:1> <lora:Detail:1>")
    accordion.expect_line("The host knows no network 'Detail'; did you mean detail?")
    accordion.choose("mode", "CFG")
    accordion.expect_line("nothing changes")


def test_the_line_follows_the_hosts_own_controls(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:1>")
    accordion.expect_line("sks_dog 1 -> 0.7 in the weak branch")
    accordion.page.locator("#txt2img_neg_prompt textarea").fill("blurry")
    accordion.expect_line("The negative prompt is not read. Choose Weak prompt: Negative to have it read.")
    accordion.choose("weak_prompt", "Negative")
    accordion.expect_line("The weak branch reads the negative prompt.")
    accordion.set_number("end", 0.5)
    accordion.expect_line("Guided in steps 1 to 4 of 8; the others are plain CFG.")
    accordion.page.locator("#txt2img_hr-checkbox input").check()
    accordion.expect_line("Hires pass: the same.")


def test_a_grid_that_switches_it_on_is_not_called_off(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.set_prompt("<lora:sks_dog:1>")
    accordion.choose_script("X/Y/Z plot")
    accordion.expect_line("The X/Y/Z plot sets Weak ratio and switches guidance on.")
    accordion.expect_line("sks_dog 1 -> 0.7 in the weak branch")


def test_ag_reads_the_prompt_so_the_weak_prompt_cannot_be_chosen(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:1>")
    for mode, enabled in (("AG", False), ("PG", True)):
        accordion.choose("mode", mode)
        accordion.expect_enabled("weak_prompt", enabled)
    accordion.choose("mode", "AG")
    accordion.expect_line("neither the negative prompt nor Weak prompt counts")


@pytest.mark.parametrize("name", ["weak_ratio", "end"])
def test_a_number_that_is_cleared_stays_what_it_was(open_page: Callable[..., Accordion], name: str) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:1>")
    accordion.set_number(name, 0.4)
    accordion.settle()
    field = accordion.number(name)
    field.fill("")
    field.blur()
    accordion.expect_number(name, 0.4)
    accordion.settle()
    accordion.expect_line("-> 0.4 in" if name == "weak_ratio" else "Guided in steps 1 to 4 of 8")


def test_a_closed_section_counts_what_is_set_inside(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.expect_section("Schedule, networks, hires")
    accordion.choose("schedule", "Linear")
    accordion.expect_section("Schedule, networks, hires (1 set)")
    accordion.set_number("weak_ratio_end", 0.2)
    accordion.set_number("start", 0.1)
    accordion.expect_section("Schedule, networks, hires (3 set)")
    accordion.choose("schedule", "Constant")  # its end does not count now
    accordion.expect_section("Schedule, networks, hires (1 set)")


def test_a_picked_network_is_the_only_one_to_be_weakened(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:1><lora:detail:1>")
    accordion.expect_line("detail 1 -> 0.7")
    assert accordion.options("networks_picker") == ["detail", "fast", "sks_dog"]
    accordion.pick("networks_picker", "sks_dog")
    accordion.expect_line("sks_dog 1 -> 0.7 in the weak branch; detail 1 unchanged")


@pytest.mark.parametrize(("typed", "match"), [("det", "detail"), ("sks", "sks_dog"), ("DOG", "sks_dog")])
def test_typing_and_enter_choose_the_match(
    open_page: Callable[..., Accordion], typed: str, match: str
) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:1><lora:detail:1>")
    field = accordion.part("networks_picker").locator("input")
    field.click()
    field.press_sequentially(typed)
    field.press("Enter")
    other = "detail" if match == "sks_dog" else "sks_dog"
    accordion.expect_line(f"{match} 1 -> 0.7 in the weak branch")
    accordion.expect_line(f"{other} 1 unchanged")
    assert accordion.picked("networks_picker") == [match]


def test_a_name_that_no_network_has_is_not_picked(open_page: Callable[..., Accordion]) -> None:
    accordion = open_page()
    accordion.unfold()
    field = accordion.part("networks_picker").locator("input")
    field.click()
    field.press_sequentially("nobody")
    field.press("Enter")
    accordion.settle()
    assert accordion.picked("networks_picker") == []


def test_a_preset_is_saved_loaded_and_deleted(open_page: Callable[..., Accordion], server: Server) -> None:
    accordion = open_page()
    accordion.unfold()
    accordion.tick()
    accordion.set_prompt("<lora:sks_dog:1>")
    accordion.set_number("weak_ratio", 0.25)
    accordion.choose("schedule", "Cosine")
    accordion.part("preset_name").locator("input, textarea").fill("my dog")
    accordion.settle()
    accordion.part("preset_save").click()
    accordion.expect_message("Saved as my dog.")
    file = server.presets / "presets.json"
    kept = json.loads(file.read_text("utf-8"))["my dog"]
    assert (kept["weak_ratio"], kept["schedule"]) == (0.25, "Cosine")
    assert accordion.options("preset") == [*BUILT_IN, "my dog"]
    assert accordion.chosen("preset") == "my dog"

    accordion.set_number("weak_ratio", 0.3)
    accordion.expect_chosen("preset", "")  # these are no longer its values
    accordion.settle()
    accordion.part("preset_save").click()
    accordion.expect_message("There is a preset my dog already. Press Save again to replace its values.")
    assert json.loads(file.read_text("utf-8"))["my dog"]["weak_ratio"] == 0.25
    accordion.part("preset_save").click()
    accordion.expect_message("Saved as my dog.")
    assert json.loads(file.read_text("utf-8"))["my dog"]["weak_ratio"] == 0.3

    accordion.pick("preset", "Balanced")
    accordion.expect_number("weak_ratio", 0.7)
    accordion.expect_line("sks_dog 1 -> 0.7 in the weak branch")
    accordion.expect_shown("weak_ratio_end", False)
    accordion.part("preset_delete").click()
    accordion.expect_message("'Balanced' is built in and stays")

    accordion.pick("preset", "Half price")
    accordion.expect_message("Raise the CFG scale")
    accordion.settle()
    accordion.set_number("weak_ratio", 0.4)
    accordion.expect_chosen("preset", "")
    accordion.expect_no_message("Raise the CFG scale")

    accordion.pick("preset", "my dog")
    accordion.expect_number("weak_ratio", 0.3)
    accordion.expect_line("sks_dog 1 -> 0.3 in the weak branch")
    accordion.expect_shown("weak_ratio_end", True)
    accordion.settle()
    accordion.expect_chosen("preset", "my dog")
    accordion.part("preset_delete").click()
    accordion.expect_message("Press Delete again to delete my dog.")
    assert "my dog" in json.loads(file.read_text("utf-8"))
    accordion.part("preset_delete").click()
    accordion.expect_message("Deleted my dog.")
    assert json.loads(file.read_text("utf-8")) == {}
    assert accordion.options("preset") == list(BUILT_IN)
