"""Make docs/cost.md, a page for each machine and plots of the files that `benchmarks.speed` has written.

    python -m benchmarks.cost_page

Reads benchmarks/results/speed-*.json. Plots need matplotlib; without it `--no-plots` makes the text alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.arms import ARMS, CFG, FAST, PG
from benchmarks.cost_targets import targets
from benchmarks.denoisers import FAMILIES
from benchmarks.networks import KINDS
from benchmarks.plan import FINE_TUNE
from benchmarks.results_file import Machine, Row, read
from lib_pg.cli.output import replace_file

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "cost.md"

_MIB = 2**20

# One plot each, and why.
GROWTH = {
    "rank": (
        "Rank",
        "Two thin products a layer grow with the rank; where they would cost more than a quarter of the "
        "layer's own, the weak rows get weights of their own instead, whose memory does not depend on the "
        "rank. A device that waits for its kernels to be started does not feel the rank: their number hardly "
        "changes.",
    ),
    "networks": (
        "Networks",
        "Each network on a layer adds its own two products to the weak rows, and the time to start them, "
        "until together they would cost a quarter of the layer.",
    ),
    "layers": (
        "Adapted layers",
        "A layer without a network is not touched; one with it costs its products and, where the device "
        "waits for Python, the time to start them.",
    ),
    "batch": (
        "Batch",
        "The model's products grow with the rows, and so do the thin ones, while the time to start them "
        "stays what it is: the share that guidance adds falls once the rows keep the device busy.",
    ),
    "size": (
        "Picture size",
        "More pixels are as many products to start. Attention grows faster than the pixels, and guidance "
        "adds nothing to it; but where one picture does not keep the device busy, its size changes little.",
    ),
    "steps": (
        "Steps",
        "Guidance is prepared once a picture, so that its share falls with the steps; computed from the step "
        "to CFG and the measured preparation of a first picture.",
    ),
}
STEPS = (1, 2, 4, 8, 20, 30, 50)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of speed-*.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown to write; plots lie beside it")
    parser.add_argument("--no-plots", action="store_true", help="write the text alone")
    options = parser.parse_args()
    machines = list(read(options.results))
    if not machines:
        print(
            f"there is no speed-*.json in {options.results}; make one with benchmarks.speed", file=sys.stderr
        )
        return 2
    if not options.no_plots:
        try:
            from benchmarks.cost_plots import plot
        except ImportError as error:
            print(f"{error}: plots need matplotlib; install it, or use --no-plots", file=sys.stderr)
            return 2
        plot(machines, options.page.parent)
    replace_file(options.page, page(machines).encode())
    for machine in machines:
        replace_file(options.page.parent / _page_of(machine), machine_page(machine).encode())
    return 0


def machine_page(machine: Machine) -> str:
    """Return all that was measured on one machine."""
    parts = [
        f"# What guidance costs: {machine.name}",
        f"Made by `python -m benchmarks.cost_page` from `benchmarks/results/speed-{machine.label}.json`: "
        "change that, not this page. What the columns mean is said in [cost.md](cost.md).",
        *(_facts(machine), _arms(machine), _kinds(machine), _others(machine)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(machines: Sequence[Machine]) -> str:
    """Return docs/cost.md."""
    links = [f"- [{machine.name}]({_page_of(machine)})" for machine in machines]
    parts = [_HEAD, "All that was measured, by machine:", "\n".join(links), targets(machines)]
    parts.append("## How cost grows")
    for name, (title, reason) in GROWTH.items():
        parts.append(f"**{title}.** {reason}\n\n![step to CFG over {title.lower()}](cost-{name}.png)")
    return "\n\n".join(part for part in parts if part) + "\n"


def _page_of(machine: Machine) -> str:
    return f"cost-{machine.label}.md"


_HEAD = "\n\n".join(
    (
        "# What guidance costs",
        "Made by `python -m benchmarks.cost_page` from `benchmarks/results/speed-*.json`, which "
        "`python -m benchmarks.speed` writes: change those, not this page.",
        "Models have their published architecture and random weights. Arms take turns in one run; a step is "
        "one evaluation of the model with its weak and its strong rows, the guidance formula and Euler's "
        "update, without text encoder and VAE. *To CFG* is the median over rounds of an arm's step to CFG's "
        "in the same round, with the least and the greatest of the rounds. Memory is the arm's peak beyond "
        "CFG's: what it holds (the networks' factors, which CFG with merged weights does not need any more; "
        "a second model) and what it adds. Unless a line says otherwise: one picture, that is two rows, a "
        "LoRA of rank 32 on every linear layer of the attention and feed-forward blocks, omega 0.7, nothing "
        "compiled, no TF32.",
        "![step to CFG by arm](cost-arms.png)",
    )
)


def _facts(machine: Machine) -> str:
    facts = {key: value for key, value in machine.facts.items() if key not in ("device", "kind")}
    models = "; ".join(f"{model}: {FAMILIES[model].called}" for model in machine.models())
    said = ", ".join(f"{key} {value}" for key, value in facts.items()) + f". {models}."
    return "\n\n".join(filter(None, (said, machine.note)))


def _arms(machine: Machine) -> str:
    lines = [
        "| | step | to CFG | memory beyond CFG | to the network's bytes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in machine.bases():
        setting = row.setting
        lines.append(f"| **{setting.model}, {setting.size} px, {setting.dtype}** | | | | |")
        lines += [_arm(row, arm) for arm in ARMS if arm in row.arms]
    return "\n".join([*lines, *_kernels(machine)])


def _kernels(machine: Machine) -> Iterator[str]:
    """Yield a table of how busy a device is; the kernels are timed in a call of their own."""
    rows = [row for row in machine.rows if row.found["kernels"]]
    if not rows:
        return
    yield from (
        "",
        "| | | kernels a step | their time | to CFG's | busy |",
        "| --- " * 6 + "|",
    )
    for row in rows:
        setting = row.setting
        what = f"{setting.model}, {setting.size} px, {setting.dtype}, {setting.kind}"
        for arm, (number, seconds) in row.found["kernels"].items():
            work = "1" if arm == CFG else f"{row.work(arm):.3f}x"
            yield f"| {what} | {arm} | {number} | {_ms(seconds)} | {work} | {row.busy(arm):.0%} |"


def _arm(row: Row, arm: str) -> str:
    extra, memory = row.extra(arm), row.memory(arm)
    said = f"{extra / _MIB:.1f} MiB" if extra is not None and arm != CFG else ""
    return f"| {arm} | {_ms(row.step(arm))} | {_ratio(row, arm)} | {said} | {_times(memory)} |"


def _kinds(machine: Machine) -> str:
    lines = []
    for model in machine.models():
        base = machine.base(model)
        rows = [row for kind in [*KINDS, FINE_TUNE] if (row := machine.find(replace(base, kind=kind)))]
        if len(rows) < 2:
            continue
        lines += ["", f"## Kinds of networks, {model} at {base.size} px in {base.dtype}", ""]
        lines.append(
            "| kind | how | step to CFG | memory beyond CFG | to its bytes | prepared, first picture | next |"
        )
        lines.append("| --- " * 7 + "|")
        lines += [_kind(row) for row in rows]
        lines += _files(rows)
    return "\n".join(lines[1:])


def _kind(row: Row) -> str:
    extra = row.extra()
    weights = row.found["weight_bytes"]
    memory = f"{extra / _MIB:.1f} MiB" if extra is not None else "not known"
    ratio = _times(row.memory()) or (f"{extra / weights:.2f}x the weights" if extra is not None else "")
    times = " | ".join(_ms(row.prepared(picture)) for picture in (0, 1))
    return f"| {row.setting.kind} | {row.engines} | {_ratio(row, PG)} | {memory} | {ratio} | {times} |"


def _files(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row.found["load"] is not None:
            compare, load = row.found["compare"], row.found["load"]
            yield ""
            yield (
                f"A full fine-tune is compared with its base's file in {compare:.1f} s, once for a "
                f"checkpoint and its base; loading that file into a model takes {load:.1f} s. Both "
                "from the system's file cache."
            )


def _others(machine: Machine) -> str:
    """Return the rows that vary one thing, which the plots show."""
    lines = [
        "## One thing varied",
        "",
        "| | step, CFG | PG | to CFG | memory to the networks' bytes | how | PG, fast, to CFG |",
        "| --- " * 7 + "|",
    ]
    for model in machine.models():
        for name in ("rank", "networks", "layers", "batch", "size", "dtype"):
            rows = machine.along(model, name)
            if len(rows) > 1:
                lines += [_varied(row, name) for row in rows]
    return "\n".join(lines) if len(lines) > 4 else ""


def _varied(row: Row, name: str) -> str:
    what = f"{row.setting.model}, {name} {getattr(row.setting, name)}"
    steps = " | ".join(_ms(row.step(arm)) for arm in (CFG, PG))
    fast = _ratio(row, FAST) if FAST in row.arms else ""
    return f"| {what} | {steps} | {_ratio(row, PG)} | {_times(row.memory())} | {row.engines} | {fast} |"


def _ratio(row: Row, arm: str) -> str:
    found = row.ratios(arm)
    if arm == CFG:
        return "1"
    return f"{row.ratio(arm):.3f}x ({min(found):.3f} to {max(found):.3f})"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
