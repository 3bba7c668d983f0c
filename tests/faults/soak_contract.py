"""A contract host that is soaked."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.faults import a1111, forge
from tests.faults.extension import Extension, own_copy
from tests.faults.scenario import A1111_KINDS, FORGE_KINDS, Fault, Scenario, draw_settings
from tests.faults.soak import Subject
from tests.faults.webui import Webui

_OPENED: dict[str, Any] = {"a1111": a1111.opened, "forge": forge.opened}
_REFERENCE = {"enabled": True, "weak_ratio": 0.3}
_STEPS = 4


class ContractSubject(Subject):
    """All kinds of networks in one host, some of them in each generation."""

    def __init__(self, webui: Webui, extension: Extension) -> None:
        self._webui, self._extension = webui, extension
        self._all = webui.scenario.networks

    def generate(self, rng: random.Random) -> None:
        webui = self._webui
        networks = tuple(rng.sample(self._all, rng.choice((0, 1, 2, 3))))
        settings = draw_settings(rng, [name for name, *_ in networks])
        changed = rng.choice(self._all)[0]
        undo = webui.change_network(changed, "changed") if rng.random() < 0.1 else lambda: None
        webui.checkpoint = rng.choice(("dream", "dream", "dream", "second"))
        self._run(settings, networks, rng.choice((1, 2)), rng.choice((64, 96, 128)), rng.random() < 0.2)
        webui.checkpoint = "dream"
        undo()

    def step(self, guided: bool) -> float:
        start = time.process_time()
        self._run(_REFERENCE if guided else None, self._all[:1], 2, 64, False)
        return (time.process_time() - start) / _STEPS

    def caches(self) -> dict[str, int]:
        gc.collect()
        passes = [each for each in gc.get_objects() if type(each).__name__ in ("A1111Pass", "ForgePass")]
        kept = getattr(self._webui.model(), "personalization_guidance_base", None)
        layers = 0 if kept is None else len(kept.base.kept)
        prompts = len(self._extension.script.null_prompts._prompts)
        return {"null prompts": prompts, "passes": len(passes), "layers of a base": layers}

    def _run(self, settings: Any, networks: Any, pictures: int, size: int, hires: bool) -> None:
        webui = self._webui
        webui.scenario = replace(webui.scenario, pictures=pictures, hires=hires, tags=({},) * len(networks))
        p = webui.request(settings, networks=networks, width=size, height=size)
        error = webui.generate(p).error
        if error is not None:
            raise error
        del webui.reported[:]


@contextmanager
def opened(host: str, folder: Path) -> Iterator[Subject]:
    """Have a contract host run for the block."""
    kinds = A1111_KINDS if host == "a1111" else FORGE_KINDS
    networks = tuple((f"network{number}", kind, 0.8) for number, kind in enumerate(kinds))
    relative = "" if host == "a1111" else "Forge"
    scenario = Scenario(0, host, {}, networks, Fault("none"), relative, steps=_STEPS)
    with own_copy():
        extension = Extension()
        with _OPENED[host](scenario, extension, folder) as webui:
            yield ContractSubject(webui, extension)
