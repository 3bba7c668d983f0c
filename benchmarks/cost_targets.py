"""The first tables of docs/cost.md: what was measured against what is wanted, and why that is missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from benchmarks.arms import CFG, FAST, FAST_HALF, HALF, PG
from benchmarks.denoisers import FAMILIES
from benchmarks.results_file import Machine, Row

# Of a step to CFG's by kind of device, and of memory to the networks' bytes.
STEP_TARGETS = {"cpu": 1.05, "cuda": 1.02}
MEMORY_TARGET = 1.2
HALF_TARGET = 0.77
_BUSY = 0.9  # of a step; a device with less work than this waits for it


def targets(machines: Sequence[Machine]) -> str:
    """Return a table for each machine, and the reasons that its kernels tell."""
    parts = [
        "## Against what we want",
        "Met or missed in all rounds; *not clear* where rounds lie on both sides.",
    ]
    for machine in machines:
        lines = ["| what | wanted | measured | |", "| --- | --- | --- | --- |"]
        for model in machine.models():
            at_size = replace(machine.base(model), size=FAMILIES[model].size)
            for rank in (16, 32, 128):
                row = machine.find(replace(at_size, rank=rank))
                if row is not None:
                    lines += _of(machine, row)
        parts += ["\n".join(lines), *_reasons(machine)]
    if all(machine.kind == "cpu" for machine in machines):
        parts.append("No GPU has been measured yet: nothing is said of one here.")
    return "\n\n".join(parts)


def _of(machine: Machine, row: Row) -> Iterator[str]:
    setting = row.setting
    where = f"{machine.name}, {setting.model} {setting.size} px {setting.dtype}"
    for arm in (PG, FAST):
        if arm in row.arms:
            what = f"{where}, LoRA of rank {setting.rank}, {arm}: step to CFG"
            yield _target(what, STEP_TARGETS[machine.kind], row.ratios(arm))
    if (memory := row.memory()) is not None:
        what = f"{where}, LoRA of rank {setting.rank}, {PG}: memory to the network's bytes"
        yield _target(what, MEMORY_TARGET, [memory])
    for arm in (HALF, FAST_HALF):
        if arm in row.arms:
            yield _target(f"{where}, {arm}: to CFG", HALF_TARGET, row.ratios(arm))


def _reasons(machine: Machine) -> Iterator[str]:
    """Say what a GPU's kernels tell of its steps: how busy it is, and what guidance adds to its own work."""
    rows = [row for row in machine.bases() if row.found["kernels"]]
    waiting = [_model(row) for row in rows if row.busy(CFG) < _BUSY]
    if waiting:
        yield (
            f"{machine.name} is busy in less than {_BUSY:.0%} of CFG's step with {_listed(waiting)}: it "
            "waits for Python to start its kernels. There every kernel that guidance adds costs the time to "
            "start it, however little work it is, and half of the rows take nearly as long as all."
        )
    heavy = [f"{_model(row)} ({row.work():.3f}x)" for row in rows if row.work() > STEP_TARGETS[machine.kind]]
    if heavy:
        yield (
            f"What is wanted of a step is also missed by the work itself, PG's kernels to CFG's, with "
            f"{_listed(heavy)}: about as much would be missed by a device that never waits."
        )


def _model(row: Row) -> str:
    return f"{row.setting.model} in {row.setting.dtype}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _target(what: str, wanted: float, found: Sequence[float]) -> str:
    """Return a line: met or missed in all rounds, or else not clear."""
    met = [round(each, 2) <= wanted for each in found]
    verdict = "met" if all(met) else "not clear" if any(met) else "**missed**"
    rounds = f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
    return f"| {what} | {wanted:.2f} | {median(found):.3f}{rounds} | {verdict} |"
