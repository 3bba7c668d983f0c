"""The plots of docs/cost.md."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.arms import ARMS, CFG
from benchmarks.cost_page import GROWTH, STEPS
from benchmarks.cost_targets import STEP_TARGETS
from benchmarks.results_file import Machine, Row
from lib_pg.cli.output import replace_file

_SIZE = (9.6, 3.4)  # inches


def plot(machines: Sequence[Machine], folder: Path) -> None:
    """Write one PNG for all arms and one for each thing that cost grows with."""
    _save(folder / "cost-arms.png", lambda axes: _arms(axes, machines))
    for name, (title, _) in GROWTH.items():

        def draw(axes: Axes, name: str = name, title: str = title) -> None:
            _growth(axes, machines, name, title)

        _save(folder / f"cost-{name}.png", draw)


def _save(path: Path, draw: object) -> None:
    figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
    axes.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)  # type: ignore[attr-defined]
    draw(axes)  # type: ignore[operator]
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    replace_file(path, stream.getvalue())


def _arms(axes: Axes, machines: Sequence[Machine]) -> None:
    rows = [
        (f"{machine.name}, {model}", row)
        for machine in machines
        for model in machine.models()
        if (row := machine.find(machine.base(model))) and len(row.arms) > 2
    ]
    arms = [arm for arm in ARMS if arm != CFG]
    width = 0.8 / max(len(rows), 1)
    for place, (called, row) in enumerate(rows):
        there = [(number, arm) for number, arm in enumerate(arms) if arm in row.arms]
        xs = [number + (place - (len(rows) - 1) / 2) * width for number, _ in there]
        axes.bar(xs, [row.ratio(arm) for _, arm in there], width, label=called)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(arms)), [arm.replace(" ", "\n") for arm in arms], fontsize=8)
    axes.set_ylabel("step to CFG")
    if rows:
        _legend(axes)


def _growth(axes: Axes, machines: Sequence[Machine], name: str, title: str) -> None:
    for machine in machines:
        for model in machine.models():
            points = _points(machine, model, name)
            if len(points) > 1:
                label = f"{machine.name}, {model}"
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linewidth=1.2, label=label)
    for kind in dict.fromkeys(machine.kind for machine in machines):
        axes.axhline(STEP_TARGETS[kind], color="grey", linewidth=0.8, linestyle=":")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xlabel(title.lower())
    axes.set_ylabel("PG's step to CFG's" if name != "steps" else "PG to CFG, a first picture")
    if axes.lines:
        _legend(axes)


def _legend(axes: Axes) -> None:
    """Put the legend beside the axes: within them it may hide a point."""
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _points(machine: Machine, model: str, name: str) -> list[tuple[float, float]]:
    if name == "steps":
        row = machine.find(machine.base(model))
        return [] if row is None else [(steps, _picture(row, steps)) for steps in STEPS]
    rows = machine.along(model, name)
    if name == "layers":
        return sorted((row.found["layers_adapted"], row.ratio()) for row in rows)
    return [(getattr(row.setting, name), row.ratio()) for row in rows]


def _picture(row: Row, steps: int) -> float:
    return row.ratio() + row.prepared(0) / (steps * row.step(CFG))
