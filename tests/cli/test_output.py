"""Where pictures go: tried before the work, claimed by name, whole or not at all."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.output import output_folder, replace_file, save_new


def test_a_folder_is_made_and_stays_with_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with output_folder(folder, "--out"):
        (folder / "x").touch()
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="no model"), output_folder(tmp_path / "a" / "b" / "c", "--out"):
        assert (tmp_path / "a" / "b" / "c").is_dir()
        raise UsageError("no model")
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


@pytest.mark.parametrize(
    "name", ["file", "file/below", "folder/file/far/below", "x" * 300, "new/" + "x" * 300]
)
def test_where_nothing_can_be_written_is_said_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    message = r"nothing can be written to folder .*; choose another with --out"
    with pytest.raises(UsageError, match=message), output_folder(tmp_path / name, "--out"):
        raise AssertionError("the work has begun")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody may write to")
def test_a_folder_that_may_not_be_written_is_said_at_once() -> None:
    with (
        pytest.raises(UsageError, match="nothing can be written to folder"),
        output_folder(Path("/proc/self"), "--out"),
    ):
        raise AssertionError("the work has begun")


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    (tmp_path / "00007-1.png").touch()
    (tmp_path / "notes.txt").touch()
    assert save_new(b"x", tmp_path, 5).name == "00008-5.png"
    assert (tmp_path / "00008-5.png").read_bytes() == b"x"


def _write(folder: Path, content: bytes, barrier: Any) -> None:
    barrier.wait()
    for _ in range(20):
        save_new(content, folder, 1)


def test_two_processes_lose_no_picture(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    contents = [b"a" * 1000, b"b" * 1000]
    writers = [context.Process(target=_write, args=(tmp_path, content, barrier)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [contents[0]] * 20 + [contents[1]] * 20


def test_a_name_taken_between_looking_and_claiming_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "00000-1.png").write_bytes(b"other")
    monkeypatch.setattr("os.listdir", lambda folder: [])
    assert save_new(b"ours", tmp_path, 1).name == "00001-1.png"
    assert (tmp_path / "00000-1.png").read_bytes() == b"other"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        save_new(b"x", tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_went_meanwhile_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone' cannot be written: No such file"):
        save_new(b"x", tmp_path / "gone", 1)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        replace_file(tmp_path / "folder", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
def test_being_told_to_end_in_mid_write_leaves_nothing(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from lib_pg.cli.output import save_new
from lib_pg.cli.signals import Terminated, ended_tidily

def slow(path, data):
    path.touch()
    print("writing", flush=True)
    time.sleep(60)

Path.write_bytes = slow
try:
    with ended_tidily():
        save_new(b"x", Path(sys.argv[1]), 1)
except Terminated as error:
    sys.exit(error.code)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
