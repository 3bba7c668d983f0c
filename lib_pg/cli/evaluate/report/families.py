"""Methods of one kind, which share a panel of a plot and a part of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from lib_pg.cli.evaluate.report.compare import BASELINE, Finding
from lib_pg.settings import DEFAULTS

CONSTANT = ("AG", "PG")
SCHEDULES = "Schedules of omega"
INTERVALS = "Intervals"
FAMILIES = (*CONSTANT, SCHEDULES, INTERVALS)


def family(finding: Finding) -> str:
    """Return the family of a method, told by its settings; CFG is none of them and stands for itself."""
    if finding.method == BASELINE:
        return BASELINE
    found = {**DEFAULTS, **finding.front.scored.settings}
    if found["start"] > 0 or found["end"] < 1:
        return INTERVALS
    if found["schedule"] != "Constant":
        return SCHEDULES
    return str(found["mode"])


def by_family(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the methods but CFG by family, in the order of the families; no family is empty."""
    groups: dict[str, list[Finding]] = {name: [] for name in FAMILIES}
    for finding in findings:
        if finding.method != BASELINE:
            groups.setdefault(family(finding), []).append(finding)
    return {name: members for name, members in groups.items() if members}


def omega(settings: Mapping[str, Any]) -> float:
    """Return the weak ratio of a method with a constant one."""
    return float(settings.get("weak_ratio", DEFAULTS["weak_ratio"]))


def file_part(name: str) -> str:
    """Return what stands for an amount of training in names of files; no two of them share it."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:40]
    if plain == name.lower():  # disks may not tell large letters from small ones
        return plain
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
