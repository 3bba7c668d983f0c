"""Hashes of files, and whether a file was replaced."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lib_pg.cli.hashes import fingerprint, state


def test_a_file_that_is_no_network_has_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\xff" * 20)
    assert fingerprint(path, 12) == hashlib.sha256().hexdigest()[:12]


def test_the_state_of_a_folder_is_that_of_its_models(tmp_path: Path) -> None:
    file = tmp_path / "unet" / "model.safetensors"
    file.parent.mkdir()
    states = [state(tmp_path)]
    for content in (b"1", b"12"):
        file.write_bytes(content)
        states.append(state(tmp_path))
    assert len(set(states)) == 3
    (tmp_path / "00001-7.png").write_bytes(b"")
    assert state(tmp_path) == states[-1]
    assert state(tmp_path / ("x" * 300)) != state(tmp_path / "missing")
