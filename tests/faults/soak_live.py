"""A real host that is soaked, through its API and the probe."""

from __future__ import annotations

import random
import time
from typing import Any

from tests.faults.live_scenario import Subject as Running
from tests.faults.live_scenario import draw_live
from tests.faults.soak import Subject

_REFERENCE: dict[str, Any] = {"steps": 4, "batch_size": 1, "width": 128, "height": 128}


class LiveSubject(Subject):
    """A host on this machine; the time a step takes is that of a guided picture, by the clock.

    Args:
        alone: whether the generations are made without us: what grows then is the host's own.
    """

    def __init__(self, url: str, process: int, alone: bool = False) -> None:
        self._running, self.process, self._alone = Running.at(url), process, alone
        self._done = 0

    def generate(self, rng: random.Random) -> None:
        drawn = draw_live(self._running, rng.randrange(10**6))
        size = rng.choice((128, 128, 192))
        values = {**drawn.values, "width": size, "height": rng.choice((128, size))}
        settings = None if self._alone else drawn.settings
        self._running.picture(drawn.tags, settings, values, "", drawn.probe)
        self._done += 1
        print(f"\r{self._done} generations", end="", flush=True)

    def step(self, guided: bool) -> float:
        tags = "".join(f"<lora:{name}:1>" for name in self._running.networks[:1])
        start = time.perf_counter()
        self._running.picture(
            tags, {"enabled": True, "weak_ratio": 0.3} if guided and not self._alone else None, _REFERENCE
        )
        return (time.perf_counter() - start) / _REFERENCE["steps"]

    def caches(self) -> dict[str, int]:
        found: dict[str, int] = self._running.host.call("/pg-live/caches")
        return found
