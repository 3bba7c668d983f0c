"""Numbers and verdicts as the page writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lib_pg.cli.evaluate.report.bootstrap import UNDEFINED_MAX, Estimate, Interval
from lib_pg.cli.evaluate.report.compare import Finding

Measure = Callable[[Finding], Estimate | None]

# How a difference to CFG turned out; the order of the page.
MORE_BEYOND = "more, also for other subjects"
MORE = "more for these subjects"
LESS_BEYOND = "less, also for other subjects"
LESS = "less for these subjects"
NOT_SHOWN = "no difference shown"
NOT_REACHED = "not reached"
NOT_TOLD = "reached or not: cannot be told"
DIFFERENT = (MORE_BEYOND, MORE, LESS_BEYOND, LESS)
VERDICTS = (*DIFFERENT, NOT_SHOWN, NOT_TOLD, NOT_REACHED)


def verdict(found: Estimate | None) -> str:
    """Say how a difference turned out; None is one that was not measured."""
    if found is None or found.defined <= UNDEFINED_MAX:
        return NOT_REACHED
    if not found.is_told:
        return NOT_TOLD
    beyond = found.beyond is not None and found.beyond.excludes_zero()
    if not (beyond if found.here is None else found.here.excludes_zero()):
        return NOT_SHOWN
    if found.value > 0:
        return MORE_BEYOND if beyond else MORE
    return LESS_BEYOND if beyond else LESS


def sorted_out(findings: Iterable[Finding], measure: Measure) -> dict[str, list[str]]:
    """Return the names of methods by verdict, in the order of the verdicts; none is empty."""
    found: dict[str, list[str]] = {name: [] for name in VERDICTS}
    for finding in findings:
        found[verdict(measure(finding))].append(finding.method)
    return {name: methods for name, methods in found.items() if methods}


def number(value: float) -> str:
    return f"{value:.3f}"


def signed(found: Estimate) -> str:
    """Return a difference with its interval for these subjects, bold where that excludes zero."""
    if not found.is_told:
        return verdict(found)
    if found.here is None:
        return f"{found.value:+.3f} (one picture a subject: no interval)"
    text = f"{found.value:+.3f} {_between(found.here)}"
    return f"**{text}**" if found.here.excludes_zero() else text


def interval(found: Estimate | None) -> str:
    """Return the interval for other subjects alone, bold where it excludes zero."""
    if found is None or found.beyond is None:
        return ""
    text = _between(found.beyond)
    return f"**{text}**" if found.beyond.excludes_zero() else text


def _between(interval: Interval) -> str:
    return f"({interval.low:+.3f} to {interval.high:+.3f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def safe(text: object, limit: int = 200) -> str:
    """Return a text of users as Markdown shows it as it is, in one line."""
    line = " ".join(str(text).split())
    line = line if len(line) <= limit else line[: limit - 3] + "..."
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#~" else letter for letter in line)


def named(name: str) -> str:
    """Return a name, which may hold commas, as code."""
    line = " ".join(name.split()).replace("`", "'").replace("|", "/")
    return f"`{line[:80]}`"
