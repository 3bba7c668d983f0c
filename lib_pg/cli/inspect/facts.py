"""What is said of a file: facts for programs, lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_pg.formats.errors import counted

_MIB = 1 << 20


@dataclass(frozen=True)
class About:
    """What is known of a file.

    Attributes:
        name: what the user calls it.
        title: what it is, in a few words.
        facts: all of it, fit for JSON.
        lines: a label and its text, in the order of what matters.
    """

    name: str
    title: str
    facts: Mapping[str, Any]
    lines: Sequence[tuple[str, str]]


def mebibytes(count: int) -> str:
    """Return a size in memory as users read it."""
    return f"{count / _MIB:.1f} MiB"


def layers(counts: Mapping[str, int]) -> str:
    """Return `U-Net 32 layers, text encoder 8 layers`."""
    return ", ".join(f"{name} {counted(count, 'layer')}" for name, count in counts.items()) or "none"
