"""What a guided step costs beside a step of classifier-free guidance, on a U-Net of SD 1.5's shape.

    python -m benchmarks.step_time --json build/step_time.json

Arms take turns in one run, so that a slow minute of the machine slows all of them:

    CFG                  the pipeline with a LoRA merged into its weights
    PG KIND              a network of a kind merged, and this project's guidance
    PG full fine-tune    no network, every parameter of the U-Net moved from a base checkpoint's
    two passes           CFG's two rows in two calls of the U-Net, weights as they are: the floor of methods
                         that run another model for the weak branch
    re-merge             the same, with the LoRA taken out of and put back into the weights between them

Memory is the process's greatest size during a picture beyond what the same picture takes without guidance.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.memory import peak_bytes
from benchmarks.models import sd15_pipeline
from benchmarks.networks import KINDS, random_base, random_network
from lib_pg.deltas import ActiveNetwork
from lib_pg.deltas.merge import add_networks
from lib_pg.hosts.diffusers import BaseCheckpoint, guided, installed
from lib_pg.networks import Network
from lib_pg.settings import Settings

WEAK_RATIO = 0.7
FINE_TUNE = "full fine-tune"
PG = Settings(enabled=True, mode="PG", weak_ratio=WEAK_RATIO)


@dataclass
class Kind:
    """A kind of network: how its layers are weakened, and bytes."""

    engines: str
    network_bytes: int
    touched_bytes: int
    extra_peak_bytes: int | None

    @property
    def memory(self) -> str:
        """Say what it takes, beside the network and beside the weights of the layers it changes."""
        if self.extra_peak_bytes is None:
            return "not measured, this system does not tell it"
        to_weights = self.extra_peak_bytes / self.touched_bytes
        said = f"{self.extra_peak_bytes / 2**20:.1f} MiB, {to_weights:.2f}x the weights of its layers"
        if not self.network_bytes:
            return said
        return f"{said}, {self.extra_peak_bytes / self.network_bytes:.2f}x the network"


@dataclass
class Result:
    """One run of the benchmark; times are seconds a step."""

    size: int
    layers: int
    threads: int
    rounds: int
    torch: str
    machine: str
    seconds: dict[str, list[float]]
    median_ratio_to_cfg: dict[str, float]
    fastest_ratio_to_cfg: dict[str, float]
    kinds: dict[str, Kind]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    pipeline = sd15_pipeline()
    pipeline.set_progress_bar_config(disable=True)

    def sample() -> list[float]:
        return _step_seconds(pipeline, options.size, options.steps)

    sample()  # the first call of a process is slow
    cases = {kind: Case([random_network(pipeline.unet, kind)]) for kind in options.kinds if kind != FINE_TUNE}
    if FINE_TUNE in options.kinds:
        cases[FINE_TUNE] = Case([], random_base(pipeline.unet))
    kinds = {kind: _measured(pipeline, case, sample) for kind, case in cases.items()}
    seconds = _take_turns(_arms(pipeline, cases), sample, options.rounds)
    result = Result(
        size=options.size,
        layers=len(random_network(pipeline.unet).parts["unet"].deltas),
        threads=options.threads,
        rounds=options.rounds,
        torch=torch.__version__,
        machine=platform.machine(),
        seconds=seconds,
        median_ratio_to_cfg=_ratios(seconds, median),
        fastest_ratio_to_cfg=_ratios(seconds, min),
        kinds=kinds,
    )
    print(_table(result))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Step times and memory of CFG, PG and the alternatives on SD 1.5's U-Net."
    )
    parser.add_argument("--size", type=int, default=256, help="pixels (default: 256)")
    parser.add_argument(
        "--kinds", nargs="+", choices=[*KINDS, FINE_TUNE], default=[*KINDS, FINE_TUNE], metavar="KIND",
        help=f"{', '.join([*KINDS, FINE_TUNE])} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=4, help="sampling steps a turn, the first not counted (default: 4)"
    )
    parser.add_argument("--rounds", type=int, default=4, help="turns of every arm (default: 4)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--json", type=Path, help="also write everything measured there")
    return parser.parse_args()


@dataclass(frozen=True)
class Case:
    """What is weakened in an arm."""

    networks: list[Network]
    base: BaseCheckpoint | None = None

    def parts(self) -> list[ActiveNetwork]:
        return [
            network.parts["unet"] for network in [*self.networks, *([self.base.network] if self.base else [])]
        ]


def _measured(pipeline: Any, case: Case, sample: Callable[[], object]) -> Kind:
    with installed(case.networks):
        without = peak_bytes(sample)
        with guided(pipeline, case.networks, PG, base=case.base) as run:
            peak = peak_bytes(sample)
            engines = run.describe().partition("U-Net: ")[2]
    touched = {value for part in case.parts() for module in part.deltas for value in module.parameters()}
    extra = None if without is None or peak is None else peak - without
    return Kind(
        engines, sum(part.nbytes for part in case.parts()), sum(value.nbytes for value in touched), extra
    )


Arm = Callable[[], AbstractContextManager[Any]]


def _arms(pipeline: Any, cases: dict[str, Case]) -> dict[str, Arm]:
    lora = random_network(pipeline.unet)
    part, change = lora.parts["unet"], 1.0 - WEAK_RATIO
    others: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "two passes": (lambda: None, lambda: None),
        "re-merge": (lambda: add_networks([part], -change), lambda: add_networks([part], change)),
    }

    def guiding(case: Case) -> Arm:
        return lambda: _both(installed(case.networks), guided(pipeline, case.networks, PG, base=case.base))

    def in_two_calls(weaken: Callable[[], None], restore: Callable[[], None]) -> Arm:
        return lambda: _both(installed([lora]), _two_passes(pipeline.unet, weaken, restore))

    return {
        "CFG": lambda: installed([lora]),
        **{f"PG {kind}": guiding(case) for kind, case in cases.items()},
        **{name: in_two_calls(*steps) for name, steps in others.items()},
    }


@contextmanager
def _both(first: AbstractContextManager[Any], second: AbstractContextManager[Any]) -> Iterator[None]:
    with first, second:
        yield


@contextmanager
def _two_passes(unet: Any, weaken: Callable[[], None], restore: Callable[[], None]) -> Iterator[None]:
    """Have the U-Net run its weak and its strong rows in separate calls."""
    forward = unet.forward

    def split(sample: Any, timestep: Any, encoder_hidden_states: Any, **rest: Any) -> tuple[Any]:
        half = len(sample) // 2
        weaken()
        weak = forward(sample[:half], timestep, encoder_hidden_states[:half], **rest)[0]
        restore()
        strong = forward(sample[half:], timestep, encoder_hidden_states[half:], **rest)[0]
        return (torch.cat([weak, strong]),)

    unet.forward = split
    try:
        yield
    finally:
        del unet.forward  # the instance's attribute; the class's method shows again


def _take_turns(
    arms: dict[str, Arm], sample: Callable[[], list[float]], rounds: int
) -> dict[str, list[float]]:
    """Run every arm `rounds` times, each round in another order; return its step times."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for turn in tqdm(range(rounds), desc="rounds"):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            with arms[name]():
                seconds[name] += sample()
    return seconds


def _step_seconds(pipeline: Any, size: int, steps: int) -> list[float]:
    """Sample once and return the time of each step but the first, which includes what is prepared once."""
    ticks: list[float] = []

    def tick(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        ticks.append(time.perf_counter())
        return tensors

    pipeline(
        prompt="a sks dog on a beach",
        num_inference_steps=steps,
        height=size,
        width=size,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        callback_on_step_end=tick,
    )
    return [after - before for before, after in pairwise(ticks)]


def _ratios(seconds: dict[str, list[float]], of: Callable[[list[float]], float]) -> dict[str, float]:
    """Return each arm's median, or what `of` takes, over CFG's."""
    return {name: of(times) / of(seconds["CFG"]) for name, times in seconds.items()}


def _table(result: Result) -> str:
    head = (
        f"SD 1.5 U-Net, {result.size} px, networks on {result.layers} linear layers, float32, "
        f"{result.threads} threads, torch {result.torch}"
    )
    lines = [head, f"{'':20}{'s a step':>10}{'to CFG':>9}{'fastest':>10}{'to CFG':>9}{'steps':>7}"]
    for name, times in result.seconds.items():
        lines.append(
            f"{name:20}{median(times):10.3f}{result.median_ratio_to_cfg[name]:8.3f}x"
            f"{min(times):10.3f}{result.fastest_ratio_to_cfg[name]:8.3f}x{len(times):7}"
        )
    lines.append("peak memory beyond that of the same picture without guidance:")
    lines += [f"{name:20}{kind.engines}: {kind.memory}" for name, kind in result.kinds.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
