"""A real host, and what is drawn for it: what its API, and the probe in its extensions, can do.

The host needs `--api` and `tests/live/probe`. PG_LIVE_LORA names networks that fit its checkpoint, or else
all that it lists are tried; PG_LIVE_CHECKPOINT a second checkpoint of the same family, without which there is
no refiner and no change of checkpoints; PG_LIVE_BASE one to weaken towards.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.scenario import draw_settings
from tests.live.host import Answer, Host, HostError

FAULT_PROBE, PROBE = "Fault probe", "Live probe"
_SAMPLERS = ("Euler", "Heun", "DPM++ 2M", "Euler a")
_ERRORS = ("RuntimeError", "OutOfMemoryError")
_FAULTS = {
    "ours": 30,
    "layer": 15,
    "neighbour": 12,
    "interrupt": 9,
    "skip": 5,
    "button": 5,
    "checkpoint": 6,
    "base": 5,
    "vae": 3,
    "arguments": 4,
    "missing network": 4,
    "toggle": 2,
}
WRONG: tuple[Any, ...] = (
    {"enabled": True, "weak_ratio": 3},
    {"enabled": True, "nothing": 1},
    {"weak_ratio": 0.5},
    [True, "PH"],
    [None] * 40,
    {"enabled": True, "base_checkpoint": "../../etc/passwd"},
)


@dataclass(frozen=True)
class Live:
    """A generation on a real host, and its fault."""

    seed: int
    what: str
    tags: str
    settings: Mapping[str, Any]
    values: Mapping[str, Any]
    probe: str
    error: str
    at: float
    where: float
    queued: bool


@dataclass
class Subject:
    """A running host, and what of it can be used.

    Attributes:
        networks: names of those that its own pictures can be made with.
        checkpoint: the one that it has loaded.
    """

    host: Host
    networks: list[str] = field(default_factory=list)
    checkpoint: str = ""
    second: str = os.environ.get("PG_LIVE_CHECKPOINT", "")
    base: str = os.environ.get("PG_LIVE_BASE", "")

    @classmethod
    def at(cls, url: str) -> Subject:
        host = Host(url)
        if FAULT_PROBE.lower() not in host.scripts():
            raise SystemExit("copy tests/live/probe into the host's extensions folder and restart the host")
        subject = cls(host, checkpoint=str(host.call("/sdapi/v1/options")["sd_model_checkpoint"]))
        named = [name.strip() for name in os.environ.get("PG_LIVE_LORA", "").split(",") if name.strip()]
        for name in named or host.networks():
            try:
                subject.picture(f"<lora:{name}:1>", None, {"steps": 1})
                subject.networks.append(name)
            except HostError as error:
                print(f"network {name} is left out: the host itself answers {error.status}")
        print(f"{url} has {subject.checkpoint} and {', '.join(subject.networks) or 'no network'}", flush=True)
        return subject

    def picture(
        self, tags: str, settings: Any, values: Mapping[str, Any], fault: str = "", probe: str = ""
    ) -> Answer:
        options = {"sd_model_checkpoint": self.checkpoint, **values.get("options", {})}
        rest = {key: value for key, value in values.items() if key != "options"}
        always_on = {FAULT_PROBE: [fault], PROBE: [probe]}
        return self.host.txt2img(
            f"a cat on a chair{tags}", args=settings, options=options, always_on=always_on, **rest
        )


def draw_live(subject: Subject, seed: int) -> Live:
    """Return the scenario of a seed on this host."""
    rng = random.Random(f"live {seed}")
    names = rng.sample(subject.networks, min(len(subject.networks), rng.choice((0, 1, 1, 2))))
    suffix = ("", "", "", ":pg=0.2", ":weak=0.4")
    tags = "".join(f"<lora:{name}:{rng.choice((0.6, 1))}{rng.choice(suffix)}>" for name in names)
    settings = draw_settings(rng, names)
    if "base_checkpoint" in settings:
        settings["base_checkpoint"] = subject.base or "None"
    known = set(subject.host.samplers())
    values: dict[str, Any] = {
        "steps": rng.choice((1, 2, 3, 4)),
        "batch_size": rng.choice((1, 1, 2)),
        "n_iter": rng.choice((1, 1, 1, 2)),
        "sampler_name": rng.choice([name for name in _SAMPLERS if name in known]),
    }
    if rng.random() < 0.2:
        values |= {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "hr_second_pass_steps": 2}
        values["denoising_strength"] = 0.6
    if subject.second and rng.random() < 0.15:
        values |= {"refiner_checkpoint": subject.second, "refiner_switch_at": rng.choice((0.3, 0.6))}
    probe = rng.choice(("inner", "little memory")) if rng.random() < 0.25 else ""
    what = rng.choices(list(_FAULTS), list(_FAULTS.values()))[0]
    unusable = (what == "checkpoint" and not subject.second) or (what == "base" and not subject.base)
    what = "ours" if unusable else what
    error, at, where = rng.choice(_ERRORS), rng.random(), rng.random()
    queued = rng.random() < 0.2 and what != "button"
    return Live(seed, what, tags, settings, values, probe, error, at, where, queued)
