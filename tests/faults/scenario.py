"""What is played: a generation's conditions and one fault, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HOSTS = ("a1111", "forge")
RELATIVES = ("Forge", "reForge", "Forge Classic", "Forge Neo")
A1111_KINDS = ("LoRA", "DoRA", "LoHa", "IA3", "full difference", "Newest")
FORGE_KINDS = ("lora", "diff", "glora", "newest")
ERRORS = ("RuntimeError", "OutOfMemoryError", "KeyboardInterrupt")
CALLBACKS = (
    "before_process",
    "process",
    "before_process_batch",
    "after_extra_networks_activate",
    "process_batch",
    "process_before_every_sampling",
    "cfg_denoiser",
    "postprocess_batch",
    "postprocess_image",
    "postprocess",
)
TOLD = ("comment", "page", "print", "encode", "cached_params", "file")
# What may go wrong, and in how many of a hundred scenarios it does.
FAULTS = {
    "ours": 30,
    "layer": 12,
    "neighbour": 12,
    "interrupt": 8,
    "skip": 4,
    "checkpoint": 4,
    "vae": 3,
    "base": 6,
    "toggle": 3,
    "reload": 4,
    "network file": 6,
    "host": 6,
    "none": 2,
}


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        what: one of `FAULTS`.
        error: what is raised, one of `ERRORS`; empty where nothing is.
        at: when, in [0, 1) of all evaluations, or of all calls that there are of a function.
        where: which one, in [0, 1) of all functions of ours, or of the model's layers.
        how: what is done: a neighbour's callback, or what becomes of a file.
        before: whether the neighbour comes before us; whether a change comes before the generation.
    """

    what: str
    error: str = ""
    at: float = 0.0
    where: float = 0.0
    how: str = ""
    before: bool = False

    def __str__(self) -> str:
        place = f"{self.how}{' before' if self.before else ''}".strip()
        return " ".join(filter(None, [self.error, f"{self.what}:", place, f"at {self.at:.2f}"]))


@dataclass(frozen=True)
class Scenario:
    """A generation on a contract host.

    Attributes:
        seed: what it was drawn from.
        host: `a1111` or `forge`.
        relative: which of the Forge family; empty for AUTOMATIC1111.
        networks: (name, kind, strength).
        together: whether the host runs all rows in one call; not where memory is low.
        functional: AUTOMATIC1111's setting `lora_functional`.
        refiner: step at which another checkpoint takes over; None for none.
        inner: whether a neighbour runs a generation of its own on each finished picture.
        queued: whether a second request waits while the first runs.
        fast: our setting for fast steps.
    """

    seed: int
    host: str
    settings: dict[str, Any]
    networks: tuple[tuple[str, str, float], ...]
    fault: Fault
    relative: str = ""
    pictures: int = 1
    batches: int = 1
    steps: int = 3
    calls_a_step: int = 1
    together: bool = True
    functional: bool = False
    hires: bool = False
    refiner: int | None = None
    inner: bool = False
    queued: bool = False
    tags: tuple[dict[str, str], ...] = field(default=())
    fast: bool = False

    def line(self) -> str:
        """Return the command that plays it again."""
        return f"python -m tests.faults --host {self.host} --seed {self.seed}"


def draw(host: str, seed: int) -> Scenario:
    """Return the scenario of a seed."""
    rng = random.Random(f"{host} {seed}")
    kinds = A1111_KINDS if host == "a1111" else FORGE_KINDS
    names = ("dog", "style")[: rng.choice((0, 1, 1, 1, 2, 2))]
    networks = tuple((name, rng.choice(kinds), rng.choice((0.0, 0.6, 0.8, 1.0))) for name in names)
    return Scenario(
        seed,
        host,
        draw_settings(rng, names),
        networks,
        draw_fault(rng),
        relative="" if host == "a1111" else rng.choice(RELATIVES),
        pictures=rng.choice((1, 1, 2)),
        batches=rng.choice((1, 1, 1, 2)),
        steps=rng.choice((1, 2, 3, 4)),
        calls_a_step=rng.choice((1, 1, 2)),
        together=rng.random() < 0.7,
        functional=rng.random() < 0.15 and _adds_in_forward(host, networks),
        hires=rng.random() < 0.25,
        refiner=rng.choice((0, 1, 2)) if rng.random() < 0.15 else None,
        inner=rng.random() < 0.2,
        queued=rng.random() < 0.2,
        tags=tuple(rng.choice(({}, {}, {"pg": "0.2"}, {"weak": "0.4"})) for _ in names),
        fast=rng.random() < 0.3,
    )


def _adds_in_forward(host: str, networks: Sequence[tuple[str, str, float]]) -> bool:
    """Whether AUTOMATIC1111 can have these with its setting: no difference of a norm is added to outputs."""
    return host == "a1111" and all(kind != "full difference" for _, kind, _ in networks)


def draw_settings(rng: random.Random, names: Sequence[str] = ()) -> dict[str, Any]:
    """Return arguments of the extension; those that are left out have their defaults."""
    settings: dict[str, Any] = {"enabled": True, "weak_ratio": rng.choice((0.0, 0.3, 0.7, 1.0))}
    settings["mode"] = rng.choice(("PG", "PG", "PG", "AG", "CFG"))
    chances: dict[str, Sequence[Any]] = {
        "weak_prompt": ("Negative",),
        "schedule": ("Linear", "Cosine"),
        "weak_ratio_end": (0.0, 0.9),
        "start": (0.2, 0.5),
        "end": (0.6, 0.8),
        "outside": ("None",),
        "networks": (*names, "cat"),
        "hires": ("Off", "Own"),
        "hires_weak_ratio": (0.2,),
        "base_checkpoint": ("base", "other"),
    }
    for name, values in chances.items():
        if rng.random() < 0.25:
            settings[name] = rng.choice(values)
    if rng.random() < 0.04:
        settings[rng.choice(("weak_ratio", "mode", "nothing"))] = rng.choice((3, "PH", None))
    return settings


def draw_fault(rng: random.Random) -> Fault:
    what = rng.choices(list(FAULTS), list(FAULTS.values()))[0]
    raises = what in ("ours", "layer", "neighbour", "host")
    hows = {
        "neighbour": CALLBACKS,
        "network file": ("changed", "replaced", "deleted"),
        "base": ("switched", "replaced", "deleted", "broken"),
        "host": TOLD,
    }
    return Fault(
        what,
        rng.choice(ERRORS) if raises else "",
        rng.random(),
        rng.random(),
        rng.choice(hows.get(what, ("",))),
        rng.random() < 0.5,
    )
