"""What guidance costs in a running WebUI: whole pictures with and without it, in turns in one run.

    python -m benchmarks.host_time --url http://127.0.0.1:7860 --lora sks_dog --size 256 --steps 10 --rounds 6

The host needs `--api` and the extension. With the host script of `tests/live/brute_force` or, for Forge and
its relatives, of `tests/live/brute_force_forge`, networks re-merged at every step are timed beside it; with
that of `tests/live/probe`, the preparation of a generation. With `--process`, the number of the host's
process on this machine, its peak memory is compared, too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.memory import peak_bytes
from tests.live.host import Host

BRUTE_FORCE = "Brute force weak pass"
PROBE = "Live probe"
OMEGA = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", required=True, help="address of the host")
    parser.add_argument("--lora", required=True, help="name of a network that fits its checkpoint")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6, help="pictures of each arm")
    parser.add_argument("--checkpoint", help="title of a checkpoint; without it the host's current one")
    parser.add_argument("--process", type=int, help="number of the host's process, to compare its memory")
    options = parser.parse_args()
    host = Host(options.url)
    makers = arms(host, options)
    report(time_arms(makers, options.rounds))
    if options.process:
        report_memory(makers, options.process, options.rounds)
    if PROBE.lower() in host.scripts():
        report_preparation(host, options)


def arms(host: Host, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Return what makes one picture, by arm; all draw the same prompt from the same seed."""
    prompt = f"a dog on a beach<lora:{options.lora}:1>"
    values = {"width": options.size, "height": options.size, "steps": options.steps}
    # Every call has to name a checkpoint that differs from the host's own.
    overrides = {"sd_model_checkpoint": options.checkpoint} if options.checkpoint else {}
    guided = {"enabled": True, "weak_ratio": OMEGA}
    half = {**guided, "end": 0.5, "outside": "None"}
    found: dict[str, Callable[[], Any]] = {
        "CFG": lambda: host.txt2img(prompt, options=overrides, **values),
        "PG": lambda: host.txt2img(prompt, args=guided, options=overrides, **values),
        "PG, then None": lambda: host.txt2img(prompt, args=half, options=overrides, **values),
    }
    if BRUTE_FORCE.lower() in host.scripts():
        split = {**overrides, "batch_cond_uncond": False}
        found["re-merging every step"] = lambda: host.txt2img(
            prompt, always_on={BRUTE_FORCE: [OMEGA]}, options=split, **values
        )
    return found


def time_arms(makers: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every picture by arm; each arm's first one is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(rounds + 1):
        for name, make in makers.items():
            start = time.perf_counter()
            make()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """Print each arm's median and fastest picture, and what both are to CFG's."""
    for name, found in seconds.items():
        middle, best = statistics.median(found), min(found)
        ratios = middle / statistics.median(seconds["CFG"]), best / min(seconds["CFG"])
        print(
            f"{name:22} median {middle:7.3f} s = {ratios[0]:.3f}x CFG, "
            f"fastest {best:7.3f} s = {ratios[1]:.3f}x CFG ({len(found)} pictures)"
        )


def report_memory(makers: dict[str, Callable[[], Any]], process: int, rounds: int) -> None:
    """Print how much greater the host's peak is with PG: the median over pictures in turns."""
    extra = []
    for _ in range(rounds):
        cfg, guided = (peak_bytes(makers[name], process) for name in ("CFG", "PG"))
        if cfg is None or guided is None:
            print("peak memory: only Linux tells, and only of a process of the same user")
            return
        extra.append((guided - cfg) / 2**20)
    found = f"{statistics.median(extra):.1f} MiB, from {min(extra):.1f} to {max(extra):.1f}"
    print(f"peak memory beyond CFG: {found}")


def report_preparation(host: Host, options: argparse.Namespace) -> None:
    """Print how long a generation is prepared: with another omega than before, and with nothing changed."""
    for ratio in (0.31, 0.31):
        host.txt2img(
            f"a dog on a beach<lora:{options.lora}:1>",
            args={"enabled": True, "weak_ratio": ratio},
            always_on={PROBE: ["timed"]},
            options={"sd_model_checkpoint": options.checkpoint} if options.checkpoint else {},
            steps=1,
        )
        (seconds,) = host.call("/pg-live/preparation")
        print(f"preparation: {seconds * 1000:.1f} ms")


if __name__ == "__main__":
    main()
