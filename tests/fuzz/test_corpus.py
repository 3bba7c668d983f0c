"""What the fuzzer has found worth keeping, and the fuzzer itself where it is there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SIZE_MAX = 64 * 1024  # of all of it


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_raises_nothing(tmp_path: Path, target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[target](path.read_bytes(), tmp_path)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < SIZE_MAX


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs the fuzzer: pip install atheris, then again"
)
@pytest.mark.parametrize("target", TARGETS)
def test_the_fuzzer_finds_nothing_in_two_seconds(target: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, "--seconds", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
