"""The live line on steps, passes, the refiner, grids, and what it cannot know."""

from __future__ import annotations

from typing import Any

import pytest

from lib_pg.page.situation import SecondPass
from tests.page.line import DOG, FILES, said, sentences


@pytest.mark.parametrize(
    ("given", "last"),
    [
        ({}, "At the last guided step: dog 1 -> 0.25 in the weak branch."),
        # Of ten steps the sixth is the last that is guided: five ninths of the way from 0.7 to 0.25.
        ({"end": 0.6, "steps": 10}, "At the last guided step: dog 1 -> 0.45 in the weak branch."),
        ({"start": 0.95, "steps": 10}, None),
        ({"start": 0.9, "steps": 10}, None),
    ],
)
def test_the_last_step_is_the_last_that_is_guided(given: dict[str, Any], last: str | None) -> None:
    line = sentences(schedule="Linear", weak_ratio_end=0.25, **given)
    assert [text for text in line if text.startswith("At the last")] == ([last] if last else [])


def test_a_schedule_begins_where_guidance_does() -> None:
    line = sentences(schedule="Linear", weak_ratio=0.0, weak_ratio_end=0.9, start=0.5, steps=10)
    assert line[:2] == [
        "dog 1 -> 0.5 in the weak branch.",
        "At the last guided step: dog 1 -> 0.9 in the weak branch.",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"start": 0.25, "end": 0.5, "steps": 8}, "Guided in steps 3 to 4 of 8; the others are plain CFG."),
        ({"end": 0.1, "steps": 10}, "Guided in step 1 of 10; the others are plain CFG."),
        (
            {"start": 0.25, "end": 0.5, "steps": 8, "runs_all_steps": False},
            "Guided from 25% to 50% of the steps; the others are plain CFG.",
        ),
        ({"start": 0.25, "end": 0.5}, "Guided from 25% to 50% of the steps; the others are plain CFG."),
        (
            {"end": 0.5, "steps": 10, "outside": "None"},
            "Guided in steps 1 to 5 of 10; the others draw the prompt alone, unguided, at half the cost.",
        ),
        (
            {"end": 0.5, "steps": 10, "outside": "None", "prompt": f"a {DOG} AND b"},
            "Guided in steps 1 to 5 of 10; the others are plain CFG.",
        ),
    ],
)
def test_an_interval_says_which_steps_are_guided(given: dict[str, Any], sentence: str) -> None:
    assert sentence in sentences(**given)


def test_an_interval_without_a_step_is_said_to_do_nothing() -> None:
    (line,) = sentences(start=0.99, steps=8)
    assert line == (
        "Nothing will happen: none of the 8 steps begins between Start 0.99 and End 1. "
        "Lower Start or raise End."
    )


@pytest.mark.parametrize(
    ("given", "sentences_of_it"),
    [
        ({}, ["Hires pass: the same."]),
        ({"hires": "Off"}, ["Hires pass: plain CFG."]),
        (
            {"hires": "Own", "hires_weak_ratio": 0.2},
            ["Hires pass: dog 1 -> 0.2 in the weak branch."],
        ),
        (
            {"hires": "Own", "hires_weak_ratio": 0.2, "end": 0.5, "schedule": "Linear", "steps": 2},
            [
                "Hires pass: dog 1 -> 0.2 in the weak branch.",
                "Hires pass: At the last guided step: dog 1 -> 0.4497 in the weak branch.",
            ],
        ),
        (
            {"second_pass": SecondPass("<lora:xl:1> <lora:both:0.5>")},
            [
                "Hires pass: both 0.5 -> 0.35 in the weak branch.",
                "Hires pass: xl is made for SDXL, the checkpoint is SD 1.x: it does not fit.",
            ],
        ),
        (
            {"cfg_scale": 1, "second_pass": SecondPass(DOG, 7.0)},
            ["Hires pass: dog 1 -> 0.7 in the weak branch."],
        ),
        ({"second_pass": SecondPass(DOG, 1.0)}, ["Hires pass: at CFG scale 1 there is no guidance."]),
        (
            {"prompt": "a cat", "second_pass": SecondPass(DOG)},
            ["Hires pass: dog 1 -> 0.7 in the weak branch."],
        ),
    ],
)
def test_the_hires_pass_is_named_apart(given: dict[str, Any], sentences_of_it: list[str]) -> None:
    line = sentences(FILES, **{"second_pass": SecondPass(DOG), **given})
    assert [text for text in line if text.startswith("Hires")] == sentences_of_it


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"second_pass": SecondPass(DOG, 7.0)},
            [
                "First pass: at CFG scale 1 there is no guidance.",
                "Hires pass: dog 1 -> 0.7 in the weak branch.",
            ],
        ),
        (
            {"second_pass": SecondPass(DOG, 7.0), "hires": "Off"},
            ["Nothing will happen: at CFG scale 1 there is no guidance. Raise the CFG scale."],
        ),
        (
            {"second_pass": SecondPass(DOG)},
            ["Nothing will happen: at CFG scale 1 there is no guidance. Raise the CFG scale."],
        ),
    ],
)
def test_a_second_pass_with_a_scale_of_its_own_is_guided_where_the_first_is_not(
    given: dict[str, Any], line: list[str]
) -> None:
    assert sentences(cfg_scale=1, negative="blurry", **given) == line


def test_a_refiner_is_spoken_of_where_something_is_guided() -> None:
    sentence = "networks are weakened there if the host loads them into it."
    assert sentence in said(refiner=True)
    assert sentence not in said(refiner=True, prompt="a cat")


def test_what_is_filled_in_later_is_said_to_be_unknown() -> None:
    assert "as far as this prompt says" in said(may_change=True)
    assert "as far as this prompt says" not in said()


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (
            {"enabled": False, "axes": ("weak_ratio",)},
            "The X/Y/Z plot sets Weak ratio and switches guidance on. With the values here:",
        ),
        (
            {"enabled": False, "axes": ("mode", "end"), "mode": "CFG"},
            "The X/Y/Z plot sets Mode and End, so some cells may be plain CFG. Where it guides:",
        ),
        (
            {"enabled": True, "axes": ("enabled",)},
            "The X/Y/Z plot sets Enabled, so some cells may be plain CFG. Where it guides:",
        ),
    ],
)
def test_a_grid_that_switches_it_on_is_not_called_off(given: dict[str, Any], first: str) -> None:
    assert sentences(**given) == [first, "dog 1 -> 0.7 in the weak branch."]
