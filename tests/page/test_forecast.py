"""The live line says what will happen, or why nothing would."""

from __future__ import annotations

from typing import Any

import pytest

from lib_pg.hosts.webui.network_files import KnownNetwork
from lib_pg.page.forecast import as_html, forecast, forecast_html
from lib_pg.page.situation import HostFiles, SecondPass, Situation
from lib_pg.settings import Settings

DOG = "<lora:dog:1>"
KNOWN = {
    "dog": KnownNetwork(),
    "xl": KnownNetwork(family="SDXL"),
    "old": KnownNetwork(family="SD 1.x"),
    "turn": KnownNetwork(kinds=frozenset({"OFT"})),
    "both": KnownNetwork(kinds=frozenset({"OFT", "LoRA"})),
}
FILES = HostFiles(
    find=KNOWN.get,
    similar=lambda name: "dog" if name.lower() == "dog" else "",
    family=lambda: "SD 1.x",
    left_out=frozenset({"OFT"}),
)
SITUATION = {"prompt", "negative", "cfg_scale", "steps", "second_pass", "refiner", "axes", "may_change"}


def sentences(files: HostFiles | None = None, **given: Any) -> list[str]:
    """Return the line for settings and a situation, whose names do not overlap."""
    situation = {"prompt": DOG, "cfg_scale": 7.0, **{key: given[key] for key in SITUATION & given.keys()}}
    settings = {"enabled": True, **{key: given[key] for key in given.keys() - SITUATION}}
    return forecast(Settings(**settings).to_list(), Situation(**situation), files)


def said(files: HostFiles | None = None, **given: Any) -> str:
    return " ".join(sentences(files, **given))


def test_networks_with_their_strengths() -> None:
    prompt = "a <lora:sks_dog:1:pg=0.5> <lora:detail:0.6:pg=1> <lora:style:1:0.5>"
    assert said(prompt=prompt, weak_ratio=0.2) == (
        "sks_dog 1 -> 0.5 in the weak branch; detail 0.6 unchanged; style 0.5 -> 0.1 in the weak branch."
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"enabled": False}, "Off"),
        ({"mode": "CFG"}, "nothing changes"),
        ({"cfg_scale": 1}, "CFG scale 1"),
        ({"start": 0.5, "end": 0.5}, "Start equals End"),
        ({"prompt": "a cat"}, "As far as this prompt says: no network to weaken"),
        ({"prompt": "a cat", "mode": "AG"}, "As far as this prompt says: no network to weaken"),
        ({"prompt": "<lora:dog:1:pg=1>"}, "no network to weaken"),
        ({"networks": "cat"}, "Network 'cat' is to be weakened but is not active"),
        ({"prompt": "<lora:dog:1:pg=3>"}, "pg=3 is not a number from 0 to 1"),
        (
            {"base_checkpoint": "v1-5"},
            "the checkpoint -> 0.7 of what it adds to v1-5 in the weak branch; dog 1",
        ),
        ({"base_checkpoint": "v1-5", "prompt": "a cat"}, "the checkpoint -> 0.7 of what it adds to v1-5"),
        ({"prompt": "<lora:lcm-lora:1> <lora:dog:1>"}, "accelerator"),
    ],
)
def test_what_is_said(given: dict[str, Any], words: str) -> None:
    assert words in said(**given)


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
        ({"start": 0.25, "end": 0.5}, "Guided from 25% to 50% of the steps; the others are plain CFG."),
        (
            {"end": 0.5, "steps": 10, "outside": "None"},
            "Guided in steps 1 to 5 of 10; the others have no negative side at all, at half the cost.",
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
    ("given", "sentence"),
    [
        ({}, "The negative prompt is not read. Choose Weak prompt: Negative to have it read."),
        ({"weak_prompt": "Negative"}, "The weak branch reads the negative prompt."),
        (
            {"mode": "AG"},
            "The weak branch reads the prompt itself; neither the negative prompt nor Weak prompt counts.",
        ),
        (
            {"mode": "AG", "weak_prompt": "Negative"},
            "The weak branch reads the prompt itself; neither the negative prompt nor Weak prompt counts.",
        ),
        (
            {"mode": "AG", "prompt": f"{DOG} AND a cat"},
            "AG cannot guide a prompt with AND, so plain CFG is used; use PG.",
        ),
    ],
)
def test_what_the_weak_branch_reads(given: dict[str, Any], sentence: str) -> None:
    assert sentences(negative="blurry", **given)[1] == sentence


@pytest.mark.parametrize("given", [{"negative": " \n"}, {"negative": "blurry", "prompt": "a cat"}])
def test_a_negative_prompt_that_is_read_or_empty_is_not_spoken_of(given: dict[str, Any]) -> None:
    assert "is not read" not in said(**given)


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
    ("prompt", "line"),
    [
        (
            "<lora:cat:1> <lora:dog:1>",
            [
                "dog 1 -> 0.7 in the weak branch.",
                "The host knows no network 'cat'; check its name, or refresh the list.",
            ],
        ),
        (
            "<lora:DOG:1> <lora:old:1>",
            [
                "old 1 -> 0.7 in the weak branch.",
                "The host knows no network 'DOG'; did you mean dog? Case matters.",
            ],
        ),
        (
            "<lora:xl:1> <lora:old:1>",
            [
                "old 1 -> 0.7 in the weak branch.",
                "xl is made for SDXL, the checkpoint is SD 1.x: it does not fit.",
            ],
        ),
        (
            "<lora:turn:1> <lora:both:1>",
            [
                "both 1 -> 0.7 in the weak branch.",
                "turn is of the kind OFT, which this host does not load: it does nothing.",
            ],
        ),
    ],
)
def test_networks_that_will_not_be_there_are_not_promised(prompt: str, line: list[str]) -> None:
    assert sentences(FILES, prompt=prompt) == line


def test_where_one_is_missing_some_hosts_load_none() -> None:
    files = HostFiles(find=KNOWN.get, all_or_none=True)
    line = sentences(files, prompt="<lora:cat:1> <lora:dog:1>")
    assert line[0].startswith("As far as this prompt says: no network to weaken")
    assert line[1:] == [
        "The host knows no network 'cat'; check its name, or refresh the list.",
        "The host then loads none of the prompt's networks.",
    ]


def test_what_is_filled_in_later_is_said_to_be_unknown() -> None:
    assert "as far as this prompt says" in said(may_change=True)
    assert "as far as this prompt says" not in said()


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (
            {"enabled": False, "axes": ("weak_ratio",)},
            "The X/Y/Z plot sets Weak ratio and switches guidance on. With the values below:",
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


def test_a_base_checkpoint_that_the_host_has_not_is_said_to_stay_out() -> None:
    files = HostFiles(has_checkpoint=lambda name: name != "x")
    line, note = sentences(files, base_checkpoint="x")
    assert line == "dog 1 -> 0.7 in the weak branch."
    assert "Base checkpoint 'x' is none of the host's and will not be used" in note


def test_an_accelerator_known_by_its_metadata() -> None:
    files = HostFiles(find=lambda name: KnownNetwork({"modelspec.title": "LCM LoRA"}))
    assert "accelerator" in said(files, prompt="<lora:fast:1>")


def test_every_sentence_begins_and_ends_as_one() -> None:
    line = sentences(
        FILES,
        prompt="<lora:dog:1:pg=7> <lora:lcm:1> <lora:xl:x> <lora:1> <lora:te=1>",
        networks="nobody",
        negative="blurry",
        end=0.5,
        second_pass=SecondPass("<lora:old:1>"),
    )
    assert len(line) > 6
    assert all(text.endswith(".") and (text[0].isupper() or text.startswith(("dog", "xl"))) for text in line)


@pytest.mark.parametrize("values", [[True, "PG", None], [True, "PG", 2], [1], [True] * 40])
def test_bad_values_are_named_and_never_raise(values: list[Any]) -> None:
    assert forecast(values, Situation())[0].startswith("Will not run: ")


def test_start_behind_end_is_named() -> None:
    values = Settings(enabled=True).to_list()
    values[6], values[7] = 0.9, 0.1
    assert "lower start or raise end" in forecast(values, Situation())[0]


def test_names_are_escaped() -> None:
    situation = Situation('<lora:<img src=x onerror="a()":1>')
    line = forecast_html(Settings(enabled=True).to_list(), situation, HostFiles())
    assert "<img" not in line and "&lt;img" in line
    assert "<script>" not in as_html(["<script>"])


def test_long_prompts_make_short_lines() -> None:
    prompt = "".join(f"<lora:{'n' * 500}{number}:1>" for number in range(300))
    assert len(said(prompt=prompt)) < 3000
    assert "and 288 more" in said(prompt=prompt)
    assert len(said(HostFiles(find=lambda name: None), prompt=prompt)) < 3000
