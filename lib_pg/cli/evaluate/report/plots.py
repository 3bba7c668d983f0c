"""The plots of an evaluation: fronts, differences to CFG, and these over omega."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib_pg.cli.evaluate.report.bootstrap import LEVEL, Array, Estimate, Part
from lib_pg.cli.evaluate.report.compare import Comparison, Finding, Front
from lib_pg.cli.evaluate.report.families import CONSTANT, by_family, file_part, omega
from lib_pg.cli.evaluate.report.fronts import best_at
from lib_pg.cli.evaluate.report.study import Study
from lib_pg.cli.evaluate.report.words import NOT_REACHED, Measure, verdict
from lib_pg.cli.output import replace_file

# Okabe and Ito's colours, which colour-blind people tell apart; black is CFG's. Markers tell them too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_MARKERS = ("s", "^", "D", "v", "P", "X")
_CFG = "black"
_DPI = 110
_LEVELS = 40  # at which a front is drawn
_SMALL = 8
_COLUMNS_MAX = 30  # of plots with a column a training: wider ones cannot be written


def plot(
    study: Study, comparisons: Sequence[Comparison], folder: Path, prefix: str, option: str
) -> list[str]:
    """Write all plots that the results allow as PNG and return their names.

    Args:
        prefix: what the names of the files start with.
        option: the command line's name for the folder, for messages.

    Raises:
        UsageError: one cannot be written.
    """
    drawn: dict[str, Callable[[], Figure]] = {
        f"{prefix}-front-{file_part(each.group.training)}.png": partial(_fronts, study, each)
        for each in comparisons
    }
    compared = all(each.baseline for each in comparisons) and _methods(comparisons)
    if compared and len(comparisons) <= _COLUMNS_MAX:
        drawn[f"{prefix}-differences.png"] = partial(_differences, study, comparisons)
        if any(len(by_family(each.findings).get(name, [])) > 1 for each in comparisons for name in CONSTANT):
            drawn[f"{prefix}-omega.png"] = partial(_over_omega, study, comparisons)
    for name, draw in drawn.items():
        stream, figure = io.BytesIO(), draw()
        figure.savefig(stream, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
        pyplot.close(figure)
        replace_file(folder / name, stream.getvalue(), option)
    return list(drawn)


def _plain(text: str, limit: int = 60) -> str:
    """Return a text of users as matplotlib draws it as it is: dollars would make it a formula."""
    line = " ".join(text.split())
    line = line if len(line) <= limit else f"{line[: limit - 3]}..."
    return line.encode("utf-8", "replace").decode().replace("$", r"\$")


def _fronts(study: Study, comparison: Comparison) -> Figure:
    """Draw CFG beside one family of methods a column; below, what they have beyond CFG."""
    families = by_family(comparison.findings) or {"": []}
    rows = 1 if comparison.baseline is None else 2
    figure, grid = pyplot.subplots(
        rows, len(families), figsize=(3.3 * len(families), 2.8 * rows + 0.6), layout="constrained",
        sharex=True, sharey="row", squeeze=False,
    )  # fmt: skip
    for column, (name, members) in enumerate(families.items()):
        styles = list(zip(members, _cycled(_COLOURS), _cycled(_MARKERS), strict=False))
        if comparison.baseline is not None:
            _front(grid[0, column], comparison.baseline.front, _CFG, "o")
            grid[1, column].axhline(0, color=_CFG, linewidth=0.8)
        for finding, colour, marker in styles:
            _front(grid[0, column], finding.front, colour, marker)
            if comparison.baseline is not None:
                _gain(grid[1, column], finding.front, comparison.baseline.front, colour)
        grid[0, column].set_title(_plain(name), fontsize=10)
        grid[-1, column].set_xlabel(_plain(study.called("alignment")))
        handles, labels = grid[0, column].get_legend_handles_labels()
        grid[-1, column].legend(
            handles, labels, fontsize=_SMALL, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2,
            frameon=False,
        )  # fmt: skip
        for axes in grid[:, column]:
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=_SMALL)
            axes.xaxis.set_major_locator(MaxNLocator(5))
    grid[0, 0].set_ylabel(_plain(study.called("fidelity")))
    if rows > 1:
        grid[1, 0].set_ylabel(
            f"{_plain(study.called('fidelity'))} less CFG's,\nat equal {_plain(study.called('alignment'))}",
            fontsize=_SMALL,
        )
    return figure


def _front(axes: Axes, front: Front, colour: str, marker: str) -> None:
    alignment, fidelity = front.alignment["whole"][0], front.fidelity["whole"][0]
    levels = np.linspace(alignment.min(), alignment.max(), _LEVELS)
    axes.plot(levels, _best(levels, front, "whole")[:, 0], color=colour, linewidth=1.3)
    _band(
        axes, levels, _best(levels, front, "beyond" if "beyond" in front.alignment else "here"), colour, 0.1
    )
    label = _plain(front.scored.method)
    axes.plot(alignment, fidelity, marker, color=colour, markersize=4, markerfacecolor="white", label=label)
    axes.plot(alignment[front.best], fidelity[front.best], marker, color=colour, markersize=6)


def _gain(axes: Axes, front: Front, baseline: Front, colour: str) -> None:
    """Draw what a method's front has beyond CFG's where both reach, with the interval of these subjects."""
    of_cfg = baseline.alignment["whole"]
    levels = np.linspace(of_cfg.min(), min(of_cfg.max(), front.alignment["whole"].max()), _LEVELS)
    axes.plot(
        levels, (_best(levels, front, "whole") - _best(levels, baseline, "whole"))[:, 0], color=colour,
        linewidth=1.3,
    )  # fmt: skip
    _band(axes, levels, _best(levels, front, "here") - _best(levels, baseline, "here"), colour, 0.2)


def _band(axes: Axes, levels: Array, found: Array, colour: str, alpha: float) -> None:
    """Fill between the percentiles of draws, (levels, draws), as far as nearly all draws reach."""
    reached = np.isfinite(found).mean(axis=1) >= LEVEL
    if reached.any():
        low, high = np.nanquantile(found[reached], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
        axes.fill_between(levels[reached], low, high, color=colour, alpha=alpha, linewidth=0)


def _best(levels: Array, front: Front, part: Part) -> Array:
    """Return the best fidelity at each level: (levels, draws)."""
    alignment, fidelity = front.alignment[part], front.fidelity[part]
    return np.stack([best_at(np.full(len(alignment), level), alignment, fidelity) for level in levels])


def _differences(study: Study, comparisons: Sequence[Comparison]) -> Figure:
    """Draw differences to CFG: a line a method, a column an amount of training."""
    names = _methods(comparisons)
    measures: tuple[tuple[str, Measure], ...] = (
        ("hypervolume less CFG's", lambda each: each.more_volume),
        (
            f"{_plain(study.called('alignment'))} less CFG's, at equal {_plain(study.called('fidelity'))}",
            lambda each: each.more_alignment,
        ),
    )
    figure, grid = pyplot.subplots(
        len(measures), len(comparisons), layout="constrained", sharey=True, sharex="row", squeeze=False,
        figsize=(max(2 * len(comparisons), 3.5) + 1.8, (0.2 * len(names) + 0.8) * len(measures)),
    )  # fmt: skip
    for row, (title, measure) in enumerate(measures):
        for axes, comparison in zip(grid[row], comparisons, strict=True):
            axes.axvline(0, color=_CFG, linewidth=0.8)
            for place, name in enumerate(names):
                finding = comparison.find(name)
                if finding is not None:
                    _interval(axes, place, measure(finding))
            axes.set_title(_plain(comparison.group.training), fontsize=9)
            axes.grid(axis="x", alpha=0.25)
            axes.tick_params(labelsize=7)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        grid[row, len(comparisons) // 2].set_xlabel(title, fontsize=_SMALL)
    grid[0, 0].set_yticks(range(len(names)), [_plain(name) for name in names])
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def _interval(axes: Axes, row: int, found: Estimate | None) -> None:
    """Draw a value with what is known of these subjects (thick) and of others (thin)."""
    if found is None or not found.is_told:
        text = "not reached" if verdict(found) == NOT_REACHED else "cannot be told"
        axes.text(0, row, f" {text}", fontsize=7, va="center", color="#555555")
        return
    if found.beyond is not None:
        axes.plot([found.beyond.low, found.beyond.high], [row, row], color="#7FB3D5", linewidth=1)
    if found.here is not None:
        axes.plot([found.here.low, found.here.high], [row, row], color="#0072B2", linewidth=3)
    axes.plot(found.value, row, "o", color=_CFG, markersize=3.5)


def _over_omega(study: Study, comparisons: Sequence[Comparison]) -> Figure:
    """Draw differences to CFG over a constant omega: at CFG's own best scale, and of the hypervolumes."""
    measures: tuple[tuple[str, Measure], ...] = (
        (
            f"{_plain(study.called('fidelity'))} less CFG's,\nat CFG's scale",
            lambda each: (each.same_scale or (None, None))[1],
        ),
        (
            f"{_plain(study.called('alignment'))} less CFG's,\nat CFG's scale",
            lambda each: (each.same_scale or (None, None))[0],
        ),
        ("hypervolume\nless CFG's", lambda each: each.more_volume),
    )
    figure, grid = pyplot.subplots(
        len(measures), len(comparisons), layout="constrained", sharex=True, sharey="row", squeeze=False,
        figsize=(max(2.2 * len(comparisons), 3.2) + 1.2, 1.9 * len(measures) + 0.4),
    )  # fmt: skip
    for column, comparison in enumerate(comparisons):
        families = by_family(comparison.findings)
        for axes, (title, measure) in zip(grid[:, column], measures, strict=True):
            axes.axhline(0, color=_CFG, linewidth=0.8)
            for name, colour, marker in zip(CONSTANT, _COLOURS, _MARKERS, strict=False):
                _line(axes, families.get(name, []), measure, colour, marker, name)
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=_SMALL)
            if column == 0:
                axes.set_ylabel(title, fontsize=_SMALL)
        grid[0, column].set_title(_plain(comparison.group.training), fontsize=10)
        grid[-1, column].set_xlabel("omega", fontsize=_SMALL)
    handles, labels = grid[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=_SMALL, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _line(
    axes: Axes, members: Sequence[Finding], measure: Measure, colour: str, marker: str, name: str
) -> None:
    """Draw a measure over omega with the intervals of these subjects; AG stands a little to the left."""
    shift = -0.012 if name == CONSTANT[0] else 0.012
    points = [(omega(each.front.scored.settings), measure(each)) for each in members]
    points.sort(key=lambda point: point[0])
    there = [(x + shift, found.value, found.here) for x, found in points if found and found.here]
    if not there:
        return
    xs, ys = (np.array([point[place] for point in there]) for place in (0, 1))
    ends = np.array([(interval.low, interval.high) for _, _, interval in there]).T
    axes.errorbar(
        xs, ys, np.abs(ends - ys), color=colour, marker=marker, markersize=4, linewidth=1.2, capsize=2,
        label=name,
    )  # fmt: skip


def _methods(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the names of all methods but CFG, by family."""
    names: dict[str, None] = {}
    for comparison in comparisons:
        for members in by_family(comparison.findings).values():
            names.update(dict.fromkeys(each.method for each in members))
    return list(names)


def _cycled(items: Sequence[str]) -> list[str]:
    return list(items) * 8
