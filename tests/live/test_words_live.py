"""What a real host's user is told: once each, with its cause, and not claimed where nothing ran."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live.host import Host

GUIDED = {"enabled": True, "weak_ratio": 0.4}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"weak_ratio": 0.5}, 'add "enabled": true'),
        ({"enabled": 1}, "enabled: got 1, must be true or false; write one of these"),
        ([None], "enabled: got None, must be true or false"),
        (GUIDED | {"start": 0.99}, "none of the 8 steps lies between start 0.99 and end 1"),
        (GUIDED | {"start": 0.5, "end": 0.5}, "none of the 8 steps lies between start 0.5 and end 0.5"),
    ],
)
def test_what_did_nothing_is_said_and_not_claimed(host: Host, prompt: str, args: Any, words: str) -> None:
    answer = host.txt2img(prompt, args=args)
    (told,) = answer.told
    assert words in told and answer.guidance() == {}


def test_a_network_that_the_host_does_not_know_is_named(host: Host, prompt: str) -> None:
    told = host.txt2img(f"{prompt}<lora:nobody:1>", args=GUIDED).told
    assert any("the host knows no network 'nobody'" in text for text in told)


def test_a_grid_tells_each_cause_once_with_the_cell_it_came_from_first(host: Host, prompt: str) -> None:
    answer = host.grid(prompt, ("[PG] Mode", "PG,AG"), ("[PG] Start", "0,0.99"))
    assert answer.told == [
        "first at [PG] Mode PG, [PG] Start 0.99: none of the 8 steps lies between start 0.99 and end 1, "
        "so nothing is guided; lower start or raise end"
    ]


def test_an_unread_setting_is_not_claimed(host: Host, prompt: str) -> None:
    answer = host.txt2img(prompt, args=GUIDED | {"hires_weak_ratio": 0.1, "weak_ratio_end": 0.1})
    assert answer.guidance() == {"PG mode": "PG", "PG weak ratio": "0.4"}
