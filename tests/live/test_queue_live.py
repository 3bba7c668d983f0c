"""Two API clients at once through the host's queue; `conftest.py` says how to run it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tests.live.host import Answer, Host

ROUNDS = 4
CLIENTS: tuple[dict[str, Any], ...] = (
    {"args": {"enabled": True, "weak_ratio": 0.2}, "seed": 11},
    {"args": {"enabled": True, "weak_ratio": 0.8, "mode": "AG"}, "seed": 12, "negative_prompt": "blurry"},
)


def at_once(host: Host, prompt: str, calls: tuple[dict[str, Any], ...]) -> list[list[Answer]]:
    """Return the answers to each call, which is made again and again beside the others."""
    together = threading.Barrier(len(calls))

    def client(call: dict[str, Any]) -> list[Answer]:
        answers = []
        for _ in range(ROUNDS):
            together.wait(600)
            answers.append(host.txt2img(prompt, **call))
        return answers

    with ThreadPoolExecutor(len(calls)) as clients:
        return list(clients.map(client, calls))


def test_two_clients_at_once_have_their_own_pictures_and_infotexts(host: Host, prompt: str) -> None:
    alone = [host.txt2img(prompt, **call) for call in CLIENTS]
    assert alone[0].guidance() == {"PG mode": "PG", "PG weak ratio": "0.2"}
    assert alone[1].guidance() == {"PG mode": "AG", "PG weak ratio": "0.8"}
    assert not np.array_equal(alone[0].picture, alone[1].picture)
    for single, answers in zip(alone, at_once(host, prompt, CLIENTS), strict=True):
        for answer in answers:
            assert answer.guidance() == single.guidance()
            assert answer.parameters()["Seed"] == single.parameters()["Seed"]
            assert answer.told == single.told
            assert np.array_equal(answer.picture, single.picture)


def test_a_client_without_the_extension_beside_one_with_it(host: Host, prompt: str) -> None:
    """What one asks for never reaches the other."""
    calls: tuple[dict[str, Any], ...] = ({"seed": 11}, CLIENTS[0])
    alone = [host.txt2img(prompt, **call) for call in calls]
    plain, guided = at_once(host, prompt, calls)
    assert all(answer.guidance() == {} and answer.told == [] for answer in plain)
    assert all(np.array_equal(answer.picture, alone[0].picture) for answer in plain)
    assert all(np.array_equal(answer.picture, alone[1].picture) for answer in guided)
