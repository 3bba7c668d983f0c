"""install.py: what it says to which host, run as the host runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).parent.parent / "install.py"


def said(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(INSTALL)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("version", "old"),
    [("1.8.0", True), ("1.9.4", True), ("1.10.0", False), ("1.10.1", False), ("0.9.1", True)],
)
def test_a_host_that_is_too_old_is_named(tmp_path: Path, version: str, old: bool) -> None:
    (tmp_path / "CHANGELOG.md").write_text(
        f"## {version}\n\n### Bug Fixes:\n* none\n\n## 0.0.1\n", encoding="utf-8"
    )
    assert (version in said(tmp_path)) is old


def test_a_host_without_a_version_is_left_in_peace(tmp_path: Path) -> None:
    assert said(tmp_path) == ""
    (tmp_path / "CHANGELOG.md").write_bytes(b"\xff\xfe no version")
    assert said(tmp_path) == ""


def test_forge_counts_for_itself(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("## 1.7.0\n", encoding="utf-8")
    (tmp_path / "modules_forge").mkdir()
    assert said(tmp_path) == ""
