"""The live line says what will happen, or why nothing would."""

from __future__ import annotations

from typing import Any

import pytest

from lib_pg.hosts.webui.network_files import KnownNetwork
from lib_pg.page.forecast import as_html, forecast, forecast_html
from lib_pg.page.situation import HostFiles, SecondPass, Situation
from lib_pg.settings import Settings
from tests.page.line import DOG, FILES, KNOWN, said, sentences


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
        (
            {"networks": "cat"},
            "As far as this prompt says: network 'cat' is to be weakened but is not active",
        ),
        ({"prompt": "<lora:dog:1:pg=3>"}, "pg=3 is not a number from 0 to 1"),
        (
            {"base_checkpoint": "v1-5"},
            "the checkpoint -> 0.7 of what it adds to v1-5 in the weak branch; dog 1",
        ),
        ({"base_checkpoint": "v1-5", "prompt": "a cat"}, "the checkpoint -> 0.7 of what it adds to v1-5"),
        ({"prompt": "<lora:lcm-lora:1> <lora:dog:1>"}, "lcm-lora is an accelerator by its name or file"),
        ({"prompt": "<lora:lcm-lora:1> <lora:dog:1>", "steps": 4}, "and is not weakened, as 4 steps"),
        ({"prompt": "<lora:lcm-lora:1> <lora:dog:1>", "steps": 30}, "need none, so it is weakened, too"),
        (
            {"prompt": "<lora:lcm-lora:1> <lora:dog:1>", "steps": 30, "runs_all_steps": False},
            "need none, so it is weakened, too",
        ),
    ],
)
def test_what_is_said(given: dict[str, Any], words: str) -> None:
    assert words in said(**given)


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
    ("prompt", "line"),
    [
        (
            "<lora:cat:1> <lora:dog:1>",
            [
                "dog 1 -> 0.7 in the weak branch.",
                "The host knows no network 'cat'; correct the name or refresh the list.",
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
    assert line[:2] == [
        "The host knows no network 'cat'; correct the name or refresh the list.",
        "The host then loads none of the prompt's networks.",
    ]
    assert line[2].startswith("As far as this prompt says: no network to weaken")


def test_an_interval_between_two_steps_of_an_unknown_number() -> None:
    assert said(steps=20, runs_all_steps=False, start=0.5001, end=0.5002).startswith(
        "Nothing will happen: no step begins between Start 0.5001 and End 0.5002."
    )


def test_that_none_is_loaded_is_said_however_many_are_missing() -> None:
    files = HostFiles(find=KNOWN.get, all_or_none=True)
    line = sentences(files, prompt=" ".join(f"<lora:cat{number}:1>" for number in range(30)))
    assert "The host then loads none of the prompt's networks." in line
    assert sum("knows no network" in sentence for sentence in line) == 11


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
