"""Whatever ends us while we write: a file has its name once it is whole, and the one before it stays."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks.results_file
import lib_pg
from lib_pg.cli.evaluate import fine_tunes
from lib_pg.cli.evaluate.part_files import part_file
from lib_pg.cli.evaluate.records import Record, head_of, in_columns, save
from lib_pg.cli.output import replace_file, save_new
from lib_pg.page.presets import PresetStore
from lib_pg.settings import Settings
from tests.hostile.children import SAID, as_nobody, ended_at, in_child, interrupt, kill, on_a_full_disk

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")

LARGE = bytes(range(256)) * 8
HEAD = head_of("bundled", "1", 3, {}, {}, {"alignment": {"about": "asked", "step": 1}})
RECORDS = [
    Record("star", "normal", "CFG", 2.0, f"a dog {seed}" * 5, seed, {"alignment": 1}) for seed in range(30)
]


def picture(folder: Path) -> None:
    save_new(LARGE, folder, 1)


def file_in_place_of_another(folder: Path) -> None:
    replace_file(folder / "page.md", LARGE)


def preset(folder: Path) -> None:
    PresetStore(folder).save("mine", Settings(networks="dog, " * 300))


def results(folder: Path) -> None:
    save(in_columns(HEAD, RECORDS), folder / "results.json")


def taught_network(folder: Path) -> None:
    with fine_tunes._whole(folder / "star-normal.safetensors") as partial:
        partial.write_bytes(LARGE)


def taught_checkpoint(folder: Path) -> None:
    with fine_tunes._whole(folder / "star-full") as partial:
        (partial / "unet").mkdir(parents=True)
        (partial / "unet" / "weights.safetensors").write_bytes(LARGE)
        (partial / "model_index.json").write_bytes(b"{}" * 1000)


def benchmark(folder: Path) -> None:
    found = benchmarks.results_file.Results(folder / "speed-cpu.json", {"device": "cpu" * 300})
    found._write()


Writer = Callable[[Path], None]
WRITERS: tuple[Writer, ...] = (
    picture, file_in_place_of_another, preset, results, taught_network, taught_checkpoint, benchmark,
)  # fmt: skip
writers = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)


def before(folder: Path) -> None:
    """What is there already, under names that are written again."""
    folder.mkdir()
    for name in ("page.md", "00003-1.png"):
        (folder / name).write_bytes(b"old")
    (folder / "presets.json").write_text('{"old": {"weak_ratio": 0.5}}')


def content(folder: Path) -> dict[str, bytes]:
    """All files with names of their own: what is not finished is in a `.part`."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.endswith(".part") for part in path.relative_to(folder).parts)
    }


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def whole(folder: Path, write: Writer) -> tuple[dict[str, bytes], dict[str, bytes]]:
    before(folder)
    old = content(folder)
    assert in_child(lambda: write(folder)) == 0
    new = content(folder)
    assert new != old and not left_over(folder)
    return old, new


def moments(tmp_path: Path, write: Writer, end: Callable[[], None], code: int) -> int:
    """End a writer at every moment; return how many there are."""
    old, new = whole(tmp_path / "whole", write)
    number = 0
    while True:
        number += 1
        folder = tmp_path / f"at-{number}"
        before(folder)
        ended = in_child(ended_at(number, folder, end, lambda folder=folder: write(folder)))  # type: ignore[misc]
        if ended == 0:
            assert content(folder) == new
            return number - 1
        assert ended == code
        found = content(folder)
        assert all(value in (old.get(name), new.get(name)) for name, value in found.items())
        assert old.keys() <= found.keys()
        if end is interrupt:
            assert not left_over(folder)
        assert in_child(lambda folder=folder: write(folder)) == 0  # type: ignore[misc]
        again = content(folder)
        assert len(again) == len(new) or write is picture  # what a kill left takes one number
        assert {*again.values()} == {*new.values()}


@writers
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(tmp_path: Path, write: Writer) -> None:
    assert moments(tmp_path, write, kill, -9) >= 2


@writers
def test_ctrl_c_at_any_moment_leaves_nothing_else(tmp_path: Path, write: Writer) -> None:
    assert moments(tmp_path, write, interrupt, 130) >= 2


@writers
@pytest.mark.parametrize("room", [0, 1, 500])
def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path, write: Writer, room: int) -> None:
    before(tmp_path / "out")
    old = content(tmp_path / "out")
    assert in_child(on_a_full_disk(room, lambda: write(tmp_path / "out"))) == SAID
    assert content(tmp_path / "out") == old
    assert not left_over(tmp_path / "out")


@writers
def test_a_folder_that_may_not_be_written_is_said(write: Writer) -> None:
    with tempfile.TemporaryDirectory() as room:  # pytest's own folders are closed to others than root
        Path(room).chmod(0o755)
        write(Path(room))  # what is imported late may be closed to nobody as well
        out = Path(room) / "out"
        before(out)
        old = content(out)
        out.chmod(0o555)
        assert in_child(as_nobody(lambda: write(out))) == SAID
        out.chmod(0o755)
        assert content(out) == old


@pytest.mark.parametrize("room", [0, 100, 1000])
def test_records_on_a_full_disk_are_said_and_those_before_stay(tmp_path: Path, room: int) -> None:
    def write() -> None:
        with part_file(tmp_path, 0, HEAD) as part:
            for record in RECORDS:
                part.add([record])

    assert in_child(on_a_full_disk(room, write)) == SAID
    write()  # with room again: what was cut short is left out
    with part_file(tmp_path, 0, HEAD):
        pass
    lines = (tmp_path / "part-000.jsonl").read_bytes().splitlines()
    assert len(lines) > len(RECORDS)
    assert lines[-1].startswith(b'["star"')


def test_records_are_written_by_one_process_alone(tmp_path: Path) -> None:
    def write() -> None:
        with part_file(tmp_path, 0, HEAD) as part:
            part.add(RECORDS)

    with part_file(tmp_path, 0, HEAD) as part:
        part.add(RECORDS[:1])
        assert in_child(write) == SAID
        part.add(RECORDS[1:2])
    assert len((tmp_path / "part-000.jsonl").read_bytes().splitlines()) == 3
    write()  # it was claimed for the time of the block alone


# Those that write under a name that nobody looks for yet, or append to a file whose last line may be cut.
WRITING = {
    "cli/output.py": {"output_folder", "_saved", "replace_file"},
    "page/presets.py": {"_replace"},
    "cli/evaluate/part_files.py": {"part_file"},
    "cli/evaluate/fine_tunes.py": {"_save_checkpoint"},
    "page/compare.py": {"_drawn"},  # by the host itself, as its own grids
}
_METHODS = {"write_text", "write_bytes", "savefig", "save", "save_pretrained", "dump", "save_file", "tofile"}


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("open", "fdopen"):
        modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) & set("wax+") and len(mode) < 4 for mode in modes)
    into = call.args[0] if call.args else None
    if isinstance(into, ast.Name) and into.id in (
        "stream",
        "results",
        "name",
    ):  # in memory, or our own `save`
        return False
    return name in _METHODS or name == "TemporaryFile"


def test_every_file_is_written_by_one_of_these() -> None:
    root = Path(lib_pg.__file__).parent
    found: dict[str, set[str]] = {}
    for path in sorted(root.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(
                isinstance(node, ast.Call) and _writes(node) for node in ast.walk(function)
            ):
                found.setdefault(path.relative_to(root).as_posix(), set()).add(function.name)
    assert found == WRITING
