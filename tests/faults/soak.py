"""Hundreds of generations in one process, all different: memory and time stay what they were, caches bounded.

    python -m tests.faults.soak [--runs 500]
    python -m tests.faults.soak --url http://127.0.0.1:7860 --process PID [--runs 200] [--alone]

Exits with 1 where memory has grown by more than 1 % after the first 50, a step takes longer, or a cache is
larger than it may be.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from tests.faults.scenario import HOSTS

_WARM = 50
_EVERY = 10
_GROWTH = 1.01
_SLOWER = 1.10
_LATER_FILES = 2  # a checkpoint to weaken towards is open as long as it is in use
# What the extension may keep.
BOUNDS = {"null prompts": 32, "passes": 1}


@dataclass
class Sample:
    """The process after a number of generations.

    Attributes:
        memory: anonymous bytes in main memory.
        step: seconds that a step of the same generation takes.
        plain: the same without us, at the same time: machines have other things to do.
        files: number of files that are open or mapped.
        caches: how much is kept in each.
    """

    generations: int
    memory: int
    step: float
    plain: float
    files: int
    caches: dict[str, int]


class Subject(ABC):
    """A host that is soaked."""

    process = os.getpid()

    @abstractmethod
    def generate(self, rng: random.Random) -> None:
        """Make pictures with whatever settings, networks and sizes come."""

    @abstractmethod
    def step(self, guided: bool) -> float:
        """Return the seconds that a step of one and the same generation takes now, with us or without."""

    @abstractmethod
    def caches(self) -> dict[str, int]:
        """Return how much the extension keeps between generations."""


def soak(subject: Subject, runs: int) -> list[Sample]:
    rng, samples = random.Random(1), []
    for number in range(1, runs + 1):
        subject.generate(rng)
        if number % _EVERY == 0:
            step, plain = (min(subject.step(guided) for _ in range(3)) for guided in (True, False))
            memory, files = anonymous_bytes(subject.process), open_files(subject.process)
            samples.append(Sample(number, memory, step, plain, files, subject.caches()))
    return samples


def anonymous_bytes(process: int) -> int:
    """Return the bytes of a process in main memory that are of no file."""
    for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/{process}/status has no RssAnon: this needs Linux")


def open_files(process: int) -> int:
    """Return how many files a process has open, and how many checkpoints and networks it has mapped."""
    mapped = {
        line.split()[-1]
        for line in Path(f"/proc/{process}/maps").read_text("utf-8").splitlines()
        if ".safetensors" in line
    }
    return len(list(Path(f"/proc/{process}/fd").iterdir())) + len(mapped)


def judge(samples: list[Sample]) -> list[str]:
    """Return what has grown."""
    warm = [sample for sample in samples if sample.generations > _WARM]
    part = max(2, len(warm) // 4)
    first, last = warm[:part], warm[-part:]
    wrong = []
    memory = statistics.median(s.memory for s in last) / statistics.median(s.memory for s in first)
    if memory > _GROWTH:
        wrong.append(f"memory has grown by {memory - 1:.2%} after the first {_WARM}")
    ratios = [statistics.median(s.step / s.plain for s in part) for part in (first, last)]
    step = ratios[1] / ratios[0]
    if step > _SLOWER:
        wrong.append(f"a step takes {step - 1:.0%} longer, held against the host alone")
    if max(s.files for s in last) > max(s.files for s in first) + _LATER_FILES:
        wrong.append(f"{max(s.files for s in last)} files are open, {max(s.files for s in first)} were")
    for name, bound in BOUNDS.items():
        most = max((s.caches.get(name, 0) for s in samples), default=0)
        if most > bound:
            wrong.append(f"{most} {name} are kept, at most {bound} may be")
    return wrong


def print_table(name: str, samples: list[Sample], wrong: list[str]) -> None:
    kept = list(samples[0].caches)
    print(f"{name}\ngenerations  memory/MB  ms/step  alone  files  {'  '.join(kept)}")
    for sample in samples[:: max(1, len(samples) // 20)]:
        numbers = "  ".join(f"{sample.caches[key]:{len(key)}}" for key in kept)
        print(
            f"{sample.generations:11}  {sample.memory / 1e6:9.1f}  {sample.step * 1000:7.2f}  "
            f"{sample.plain * 1000:5.2f}  {sample.files:5}  {numbers}"
        )
    print("; ".join(wrong) or "flat", flush=True)


def main() -> int:
    options = _options()
    failed = False
    if options.url:
        from tests.faults.soak_live import LiveSubject

        subject = LiveSubject(options.url, options.process, options.alone)
        samples = soak(subject, options.runs or 200)
        wrong = judge(samples)
        print_table(options.url, samples, wrong)
        return 1 if wrong else 0
    from tests.faults.soak_contract import opened

    for host in [options.host] if options.host else HOSTS:
        with tempfile.TemporaryDirectory() as folder, opened(host, Path(folder)) as subject:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                samples = soak(subject, options.runs or 500)
            wrong = judge(samples)
            print_table(host, samples, wrong)
            failed = failed or bool(wrong)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--host", choices=HOSTS, default="", help="one contract host; both without")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--url", default="", help="a real host on this machine, with tests/live/probe")
    parser.add_argument("--process", type=int, default=0, help="its process, beside --url")
    parser.add_argument(
        "--alone", action="store_true", help="beside --url: the same generations without us, to compare with"
    )
    options = parser.parse_args()
    if options.url and not options.process:
        parser.error("--process is needed beside --url: the host's memory is read in /proc")
    if options.runs and options.runs < _WARM + 4 * _EVERY:
        parser.error(f"--runs must be at least {_WARM + 4 * _EVERY}")
    return options


if __name__ == "__main__":
    sys.exit(main())
