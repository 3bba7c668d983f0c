"""A share of the hostile texts: `python -m tests.hostile` runs as many as you like."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.hostile import runs, texts
from tests.hostile.runs import here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds on memory are those of Linux")


@pytest.mark.parametrize("kind", texts.CHECKS)
def test_texts_are_refused_or_used_and_nothing_else(kind: str) -> None:
    assert here(kind, 40, 0)["well"] >= 40


@pytest.mark.parametrize(
    ("kind", "again"), [("prompts", "--runs 9 --first 7"), ("networks", "--runs 1 --first 8")]
)
def test_a_failing_run_says_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, again: str
) -> None:
    """Here all that a process does is to say where it is, and to crash."""
    crash = tmp_path / "crash"
    crash.write_text("#!/bin/sh\necho at 8\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crash))
    failure = runs.apart(kind, 9, 7).failure
    assert failure == f"exit code -11; repeat it with: python -m tests.hostile {kind} {again}"


def test_what_asks_for_too_much_memory_gets_none() -> None:
    with runs.bounded_memory(), pytest.raises(MemoryError):
        bytearray(2 * runs.MEMORY_MAX)


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SECONDS_MAX", 0.05)
    with runs.bounded_time(), pytest.raises(runs.TookTooLongError):
        while True:
            pass


def test_a_console_of_few_letters_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the console cannot write, and one that would command the terminal."""
    with (tmp_path / "console.txt").open("w", encoding="ascii") as console, texts.room(tmp_path) as at:
        monkeypatch.setattr(sys, "stdout", console)
        texts.prompts(at, "a dog <lora:\u72ac\x1b[31m\ud800:1>")
    assert "\\u72ac?[31m?" in (tmp_path / "console.txt").read_text("ascii")
