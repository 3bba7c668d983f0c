"""Several clients of a host's queue, each in a thread: every one has its own picture and infotext."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.infotext import to_infotext
from lib_pg.page.presets import PresetStore
from lib_pg.presets import BUILT_IN
from lib_pg.settings import Settings
from tests.hosts.a1111 import guided as a1111
from tests.hosts.a1111 import stand_in as a1111_host
from tests.hosts.forge import network_files as forge_host
from tests.hosts.forge import sampling as forge

ROUNDS = 6
OFF: dict[str, Any] = {"enabled": False}
# Two tabs and two API clients; one of them has the extension off.
CLIENTS: tuple[dict[str, Any], ...] = (
    {"enabled": True, "weak_ratio": 0.3},
    {"enabled": True, "weak_ratio": 0.8, "mode": "AG"},
    {
        "enabled": True,
        "weak_ratio": 0.1,
        "schedule": "Linear",
        "weak_ratio_end": 0.9,
        "weak_prompt": "Negative",
    },
    OFF,
)
Made = tuple[list[Tensor], dict[str, str]]
Generate = Callable[[dict[str, Any]], Made]


@contextmanager
def in_a1111() -> Iterator[Generate]:
    """All clients have one script object, as those of one tab's API have."""
    known = NullPrompts()
    with a1111_host.host([a1111.dog()]) as model:

        def generate(settings: dict[str, Any]) -> Made:
            call: dict[str, Any] = {"prompts": ["a dog"], "pictures": 1}
            if settings is OFF:
                return a1111.plain(model, **call), {}
            made, p = a1111.guided(model, settings, null_prompts=known, **call)
            return made, p.extra_generation_params

        yield generate


@contextmanager
def in_forge() -> Iterator[Generate]:
    known = NullPrompts()
    with forge_host.host([(forge_host.Network("dog"), forge_host.network_file(1))]) as engine:

        def generate(settings: dict[str, Any]) -> Made:
            if settings is OFF:
                return [each.denoised for each in forge.plain(engine)], {}
            made, p = forge.guided(engine, settings, null_prompts=known)
            return [each.denoised for each in made], p.extra_generation_params

        yield generate


@pytest.mark.parametrize("running", [in_a1111, in_forge])
def test_every_client_of_the_queue_has_its_own(running: Callable[[], Any]) -> None:
    queue = threading.Lock()  # the hosts let one generation in at a time
    together = threading.Barrier(len(CLIENTS))

    with running() as generate:

        def client(settings: dict[str, Any]) -> list[Made]:
            made = []
            for _ in range(ROUNDS):
                together.wait(60)
                with queue, torch.no_grad():  # which is a thread's own
                    made.append(generate(settings))
            return made

        alone = [generate(settings) for settings in CLIENTS]
        with ThreadPoolExecutor(len(CLIENTS)) as clients:
            found = list(clients.map(client, CLIENTS))
    for settings, (pictures, infotext), rounds in zip(CLIENTS, alone, found, strict=True):
        assert infotext == to_infotext(Settings.from_dict(settings))
        for made, said in rounds:
            assert said == infotext
            assert len(made) == len(pictures) and all(map(torch.equal, made, pictures))
    firsts = [pictures[0] for pictures, _ in alone]
    assert not any(torch.equal(firsts[0], other) for other in firsts[1:])  # they are told apart


def test_two_tabs_that_save_presets_at_once_lose_none(tmp_path: Path) -> None:
    together, store = threading.Barrier(2), PresetStore(tmp_path)

    def tab(name: str) -> None:
        for number in range(20):
            together.wait(60)
            store.save(f"{name} {number}", Settings())

    with ThreadPoolExecutor(2) as tabs:
        list(tabs.map(tab, ["txt2img", "img2img"]))
    assert len(PresetStore(tmp_path).names()) == len(BUILT_IN) + 40
