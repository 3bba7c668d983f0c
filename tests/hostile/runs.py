"""Many hostile inputs in a process of its own, with bounds on memory and time that end it."""

from __future__ import annotations

import resource
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile import files, texts
from tests.hostile.makers import Makers

FILES: dict[str, Callable[[Makers, Path, int], str]] = {
    "networks": files.network,
    "checkpoints": files.checkpoint,
}
KINDS = (*texts.CHECKS, *FILES)
# What a run may take beyond what the process has before it: files are below 2 MB.
MEMORY_MAX = 512 * 2**20
SECONDS_MAX = 20  # of one core; a run takes a tenth of one
SILENCE_MAX = 300  # seconds of the clock until a process counts as hanging

_DONE, _AT = "done ", "at "


class TookTooLongError(Exception):
    """A run has used up its time."""


@dataclass(frozen=True)
class Ended:
    """What became of some runs.

    Attributes:
        counts: of each outcome.
        failure: what went wrong, with the line that repeats it; empty where all went well.
    """

    counts: dict[str, int]
    failure: str = ""


def apart(kind: str, runs: int, first: int) -> Ended:
    """Run so many inputs of a kind in another process."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.hostile", kind, "--here"]
    command += ["--runs", str(runs), "--first", str(first)]
    at, counts, output = first, {}, []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None
        while True:
            ready, _, _ = select.select([child.stdout], [], [], SILENCE_MAX)
            if not ready:
                child.kill()
                output.append(f"nothing was heard of it for {SILENCE_MAX} seconds\n")
                break
            if not (line := child.stdout.readline()):
                break
            if line.startswith(_AT):
                at = int(line.removeprefix(_AT))
            elif line.startswith(_DONE):
                counts = dict(Counter(eval_counts(line.removeprefix(_DONE))))
            else:
                output = [*output[-200:], line]
    if child.returncode == 0 and counts:
        return Ended(counts)
    single = kind in FILES
    again = f"python -m tests.hostile {kind} --runs {1 if single else runs} --first {at if single else first}"
    return Ended(counts, f"{''.join(output)}exit code {child.returncode}; repeat it with: {again}")


def eval_counts(line: str) -> dict[str, int]:
    parts = (part.rpartition("=") for part in line.strip().split("|"))
    return {name: int(number) for name, _, number in parts}


def here(kind: str, runs: int, first: int) -> dict[str, int]:
    """Run inputs of a kind in this process; its memory is bounded from now on; return what became."""
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, for pictures that are nearly too large
        (_files if kind in FILES else _texts)(kind, runs, first, Path(folder), counts)
    print(_DONE + "|".join(f"{name}={count}" for name, count in sorted(counts.items())), flush=True)
    return counts


def _files(kind: str, runs: int, first: int, folder: Path, counts: Counter[str]) -> None:
    makers = Makers()
    untouched = files.Untouched(makers.pipeline)
    with bounded_memory():
        for number in range(first, first + runs):
            print(f"{_AT}{number}", flush=True)
            with bounded_time():
                counts[FILES[kind](makers, folder, number)] += 1
            untouched.check()


def _texts(kind: str, runs: int, first: int, folder: Path, counts: Counter[str]) -> None:
    check, drawn = texts.CHECKS[kind]
    silent = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = [Phase.generate, Phase.shrink]
    with texts.room(folder) as at:

        @seed(first)
        @settings(
            max_examples=runs, deadline=None, database=None, suppress_health_check=silent, phases=phases
        )
        @given(drawn)
        def run(value: Any) -> None:
            with bounded_time():
                check(at, value)
            counts["well"] += 1

        with bounded_memory():
            run()


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let the process grow by so much and no more: what asks for more gets none."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_MAX, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def bounded_time() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _too_long(number: int, frame: FrameType | None) -> NoReturn:
    raise TookTooLongError(f"a run took over {SECONDS_MAX} seconds")
