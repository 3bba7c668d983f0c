"""What a guided step costs beside a step of classifier-free guidance, on a U-Net of SD 1.5's shape.

    python -m benchmarks.step_time --json build/step_time.json

Arms take turns in one run, so that a slow minute of the machine slows all of them:

    CFG          the pipeline as it is, the network merged into its weights
    PG           the same with this project's guidance
    two passes   the two rows in two calls of the U-Net, weights as they are: the floor of methods that
                 run another model for the weak branch
    re-merge     the same, with the network taken out of and put back into the weights between them
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.memory import peak_bytes
from benchmarks.models import random_network, sd15_pipeline
from lib_pg.deltas.merge import add_networks
from lib_pg.hosts.diffusers import guided
from lib_pg.networks import Network
from lib_pg.settings import Settings

WEAK_RATIO = 0.7
PG = Settings(enabled=True, mode="PG", weak_ratio=WEAK_RATIO)


@dataclass
class Result:
    """One run of the benchmark; times are seconds a step, memory is bytes."""

    size: int
    rank: int
    layers: int
    threads: int
    rounds: int
    torch: str
    machine: str
    seconds: dict[str, list[float]]
    median_ratio_to_cfg: dict[str, float]
    network_bytes: int
    extra_peak_bytes: int | None


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    pipeline = sd15_pipeline()
    pipeline.set_progress_bar_config(disable=True)

    def sample() -> list[float]:
        return _step_seconds(pipeline, options.size, options.steps)

    sample()  # the first call of a process is slow
    without = peak_bytes(sample)
    network = random_network(pipeline.unet, options.rank)
    add_networks([network.parts["unet"]])
    with guided(pipeline, [network], PG):
        guided_peak = peak_bytes(sample)
    seconds = _take_turns(_arms(pipeline, network), sample, options.rounds)
    result = Result(
        size=options.size,
        rank=options.rank,
        layers=len(network.parts["unet"].deltas),
        threads=options.threads,
        rounds=options.rounds,
        torch=torch.__version__,
        machine=platform.machine(),
        seconds=seconds,
        median_ratio_to_cfg=_ratios(seconds),
        network_bytes=network.parts["unet"].nbytes,
        extra_peak_bytes=None if without is None or guided_peak is None else guided_peak - without,
    )
    print(_table(result))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Step times of CFG, PG and the alternatives on SD 1.5's U-Net."
    )
    parser.add_argument("--size", type=int, default=256, help="pixels (default: 256)")
    parser.add_argument("--rank", type=int, default=32, help="rank of the LoRA (default: 32)")
    parser.add_argument(
        "--steps", type=int, default=4, help="sampling steps a turn, the first not counted (default: 4)"
    )
    parser.add_argument("--rounds", type=int, default=8, help="turns of every arm (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--json", type=Path, help="also write everything measured there")
    return parser.parse_args()


def _arms(pipeline: Any, network: Network) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    part = network.parts["unet"]
    change = 1.0 - WEAK_RATIO
    return {
        "CFG": nullcontext,
        "PG": lambda: guided(pipeline, [network], PG),
        "two passes": lambda: _two_passes(pipeline.unet, lambda: None, lambda: None),
        "re-merge": lambda: _two_passes(
            pipeline.unet, lambda: add_networks([part], -change), lambda: add_networks([part], change)
        ),
    }


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
    arms: dict[str, Callable[[], AbstractContextManager[Any]]], sample: Callable[[], list[float]], rounds: int
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


def _ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return each arm's median over CFG's."""
    cfg = median(seconds["CFG"])
    return {name: median(times) / cfg for name, times in seconds.items()}


def _table(result: Result) -> str:
    head = (
        f"SD 1.5 U-Net, {result.size} px, rank {result.rank} on {result.layers} linear layers, float32, "
        f"{result.threads} threads, torch {result.torch}"
    )
    lines = [head, f"{'':12}{'s a step':>10}{'to CFG':>9}{'fastest':>10}{'slowest':>10}{'steps':>7}"]
    for name, times in result.seconds.items():
        lines.append(
            f"{name:12}{median(times):10.3f}{result.median_ratio_to_cfg[name]:8.3f}x"
            f"{min(times):10.3f}{max(times):10.3f}{len(times):7}"
        )
    if result.extra_peak_bytes is None:
        lines.append("peak memory: not measured, this system does not tell it")
    else:
        ratio = result.extra_peak_bytes / result.network_bytes
        lines.append(
            f"peak memory beyond CFG: {result.extra_peak_bytes / 2**20:.1f} MiB, "
            f"{ratio:.2f}x the network's {result.network_bytes / 2**20:.1f} MiB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
