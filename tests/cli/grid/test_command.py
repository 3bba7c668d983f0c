"""A grid's cells are the very pictures that `generate` makes, each once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_pg.cli.generate import studio
from lib_pg.cli.grid import command
from lib_pg.cli.grid.axes import Axis
from lib_pg.cli.grid.sheets import file_of, write_sheets
from lib_pg.cli.main import main
from lib_pg.cli.paths import BUNDLED_LORA
from lib_pg.cli.shares import Share

BASE = ["--prompt", "a sks star", "--lora", str(BUNDLED_LORA), "--steps", "2", "--device", "cpu"]
AXES = ["--x", "weak-ratio", "0-1 [2]", "--y", "mode", "PG, CFG", "--z", "sampler", "Euler a, DPM++ 2M"]
PLACES = [(x, y, z) for z in range(2) for y in range(2) for x in range(2)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "grid"


def cells(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "cells").iterdir()}


def test_cells_are_the_pictures_of_generate(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", *BASE, *AXES, "--seed", "5", "--batch", "2", "--out", str(folder)]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "grid.html"), str(folder / "grid.png")]
    for x, y, z in PLACES:
        values = [
            "--weak-ratio",
            "01"[x],
            "--mode",
            ("PG", "CFG")[y],
            "--sampler",
            ("Euler a", "DPM++ 2M")[z],
        ]
        assert main(["generate", *BASE, *values, "--seed", "5", "--batch", "2", "--out", str(tmp_path)]) == 0
        for index, path in enumerate(capsys.readouterr().out.split()):
            assert Path(path).read_bytes() == (folder / file_of((x, y, z), index)).read_bytes()
    assert len(cells(folder)) == 16
    page = (folder / "grid.html").read_text("utf-8")
    assert page.count("<img") == 16 and "weak-ratio 1" in page and "sampler Euler a" in page
    assert Image.open(folder / "grid.png").width > 4 * 64


def test_a_grid_that_was_stopped_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []
    make = studio.Studio.made

    def counted(self: Any, asked: Any, options: Any) -> Iterator[Any]:
        made.append((options.weak_ratio, options.mode, options.sampler))
        if len(made) == 4:
            raise KeyboardInterrupt
        return make(self, asked, options)

    monkeypatch.setattr(studio.Studio, "made", counted)
    arguments = ["grid", *BASE, *AXES, "--out", str(folder)]
    assert main(arguments) == 130
    before = cells(folder)
    assert len(before) == 3
    assert main(arguments) == 0
    assert len(made) == 4 + 5 and len(set(made)) == 8  # the one that was cut off is made anew
    after = cells(folder)
    assert before.items() <= after.items() and len(after) == 8
    seeds = {json.loads((folder / "grid.json").read_text())["seed"]}
    assert len(seeds) == 1
    assert main([*arguments, "--steps", "3"]) == 2
    assert "holds another grid" in capsys.readouterr().err
    assert cells(folder) == after


def test_processes_share_the_cells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["grid", *BASE, *AXES, "--out", str(folder)]
    monkeypatch.setattr(Share, "wait", lambda self: None)
    monkeypatch.setattr(command, "write_sheets", lambda *arguments: [])
    counts = []
    for index in range(3):
        share = Share(index, 3, index)
        monkeypatch.setattr(command, "own_share", lambda share=share: share)
        assert main(arguments) == 0
        counts.append(len(cells(folder)))
    assert counts == [3, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--x", "weak-ratio", "0, 2"], "from 0 to 1"),
        (["--x", "steps", "0"], "between 1 and 1000"),
        (["--x", "nothing", "1"], "is no axis"),
        (["--x", "steps", "1", "--count", "2"], "--batch"),
        (["--x", "steps", "-1e308-1e308 [5]"], "too far apart"),
        (["--x", "seed", "9007199254740993-9007199254740995"], "one by one"),
        (["--x", "steps", "1", "--checkpoint", "nowhere"], "does not exist"),
        (["--x", "steps", "1", "--mask", "a.png"], "--init-image"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", *BASE, *arguments, "--out", str(folder)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.splitlines()[-1].startswith("error: ")
    assert not folder.exists()


def test_what_a_launcher_sets_is_no_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert main(["grid", *BASE, *AXES, "--out", str(folder)]) == 2
    assert "WORLD_SIZE is 'two'" in capsys.readouterr().err


def test_pictures_on_an_axis_keep_their_seeds(folder: Path, tmp_path: Path) -> None:
    pictures = []
    for seed in (5, 6):
        out = tmp_path / str(seed)
        assert main(["generate", *BASE, "--seed", str(seed), "--out", str(out)]) == 0
        pictures.append(out / f"00000-{seed}.png")
    arguments = [
        "--lora",
        str(BUNDLED_LORA),
        "--device",
        "cpu",
        "--x",
        "from-png",
        ", ".join(map(str, pictures)),
    ]
    assert main(["grid", *arguments, "--out", str(folder)]) == 0
    for x, picture in enumerate(pictures):
        assert (folder / file_of((x, 0, 0), 0)).read_bytes() == picture.read_bytes()


def test_a_value_that_is_no_text_is_labelled(folder: Path) -> None:
    """Names of files may be any bytes; the page comes last, when all pictures are made."""
    (folder / "cells").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / file_of((0, 0, 0), 0))
    write_sheets(folder, "a", [Axis("lora", ("\udcff",), (("lora", ()),)), None, None], [[[1]]])
    assert "lora ?" in (folder / "grid.html").read_text("utf-8")


def test_a_damaged_plan_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    for content in ("{", "[]", '{"seed": "1", "plan": {}}', "[" * 100_000):
        (folder / "grid.json").write_text(content)
        assert main(["grid", *BASE, "--x", "steps", "1", "--out", str(folder)]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
