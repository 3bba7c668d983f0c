"""The live line says what will happen, or why nothing would."""

from __future__ import annotations

from typing import Any

import pytest

from lib_pg.page.forecast import as_html, forecast, forecast_html
from lib_pg.settings import Settings


def said(prompt: str = "<lora:dog:1>", cfg_scale: float | None = 7.0, **settings: Any) -> str:
    return " ".join(forecast(Settings(**{"enabled": True, **settings}).to_list(), prompt, cfg_scale))


def test_networks_with_their_strengths() -> None:
    line = said("a <lora:sks_dog:1:pg=0.5> <lora:detail:0.6:pg=1> <lora:style:1:0.5>", weak_ratio=0.2)
    assert line == (
        "sks_dog 1 -> 0.5 in the weak branch; detail 0.6 unchanged; style 0.5 -> 0.1 in the weak branch."
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"enabled": False}, "Off"),
        ({"mode": "CFG"}, "nothing changes"),
        ({"cfg_scale": 1}, "CFG scale 1"),
        ({"start": 0.5, "end": 0.5}, "Start equals End"),
        ({"prompt": "a cat"}, "no network to weaken"),
        ({"prompt": "a cat", "mode": "AG"}, "plain CFG"),
        ({"prompt": "<lora:dog:1:pg=1>"}, "no network to weaken"),
        ({"networks": "cat"}, "'cat' is to be weakened but is not active"),
        ({"prompt": "<lora:dog:1:pg=3>"}, "pg=3 is not a number from 0 to 1"),
        (
            {"base_checkpoint": "v1-5"},
            "the checkpoint -> 0.7 of what it adds to v1-5 in the weak branch; dog 1",
        ),
        ({"base_checkpoint": "v1-5", "prompt": "a cat"}, "the checkpoint -> 0.7 of what it adds to v1-5"),
        ({"schedule": "Linear", "weak_ratio_end": 0.25}, "At the last step: dog 1 -> 0.25"),
        ({"prompt": "<lora:lcm-lora:1> <lora:dog:1>"}, "accelerator"),
    ],
)
def test_what_is_said(arguments: dict[str, Any], words: str) -> None:
    assert words in said(**arguments)


def test_a_base_checkpoint_that_the_host_has_not_is_said_to_stay_out() -> None:
    values = Settings(enabled=True, base_checkpoint="x").to_list()
    (line, said) = forecast(values, "<lora:dog:1>", 7.0, is_listed=lambda name: name != "x")
    assert line == "dog 1 -> 0.7 in the weak branch."
    assert "Base checkpoint 'x' is none of the host's and will not be used" in said


def test_an_accelerator_known_by_its_metadata() -> None:
    values = Settings(enabled=True).to_list()
    line = forecast(values, "<lora:fast:1>", 7.0, lambda name: {"modelspec.title": "LCM LoRA"})
    assert any("accelerator" in sentence for sentence in line)


@pytest.mark.parametrize("values", [[True, "PG", None], [True, "PG", 2], [1], [True] * 40])
def test_bad_values_are_named_and_never_raise(values: list[Any]) -> None:
    assert forecast(values, "", 7.0)[0].startswith("Will not run: ")


def test_start_behind_end_is_named() -> None:
    values = Settings(enabled=True).to_list()
    values[6], values[7] = 0.9, 0.1
    assert "lower start or raise end" in forecast(values, "", 7.0)[0]


def test_names_are_escaped() -> None:
    line = forecast_html(Settings(enabled=True).to_list(), '<lora:<img src=x onerror="a()":1>', 7.0)
    assert "<img" not in line and "&lt;img" in line
    assert "<script>" not in as_html(["<script>"])


def test_long_prompts_make_short_lines() -> None:
    prompt = "".join(f"<lora:{'n' * 500}{number}:1>" for number in range(300))
    assert len(said(prompt)) < 3000
    assert "and 288 more" in said(prompt)
