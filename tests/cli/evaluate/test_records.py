"""The file of results: what a killed run leaves, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate import records
from lib_pg.cli.evaluate.methods import described
from lib_pg.cli.evaluate.part_files import finished, merged, part_file
from lib_pg.cli.evaluate.records import Head, Record, head_of, in_columns, load, save

SCORES = {"alignment": {"about": "asked", "step": 1}, "fidelity": {"about": "like", "step": 0.001}}


def head(**changes: object) -> Head:
    values = {
        "protocol": "bundled",
        "version": "1",
        "steps": 3,
        "methods": described(),
        "models": {"a": "0f"},
    }
    return head_of(**{**values, "scores": SCORES, **changes})  # type: ignore[arg-type]


def record(seed: int, subject: str = "star", fidelity: float = 0.25, scale: float = 2.5) -> Record:
    scores = {"alignment": seed % 2, "fidelity": fidelity}
    return Record(subject, "normal", "CFG", scale, f"a sks {subject} é", seed, scores)


def write(folder: Path, records: list[Record], process: int = 0) -> Path:
    with part_file(folder, process, head()) as part:
        part.add(records)
    return folder / f"part-{process:03d}.jsonl"


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    write(tmp_path, [record(1), record(2)])
    assert finished(tmp_path, head()) == {record(1).key, record(2).key}
    write(tmp_path, [record(3)])
    assert merged(tmp_path, head()).seed.tolist() == [1, 2, 3]


def test_records_are_in_the_file_before_it_is_closed(tmp_path: Path) -> None:
    with part_file(tmp_path, 0, head()) as part:
        part.add([record(1)])
        assert finished(tmp_path, head()) == {record(1).key}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_kill_in_mid_write_costs_the_last_record_alone(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, [record(1), record(2)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert finished(tmp_path, head()) == {record(1).key}
    write(tmp_path, [record(2)])
    assert path.read_bytes() == whole


def test_a_kill_while_the_head_is_written_costs_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    path.write_bytes(path.read_bytes()[:-5])
    assert finished(tmp_path, head()) == set()
    write(tmp_path, [record(1)])
    assert len(merged(tmp_path, head())) == 1


def test_damage_elsewhere_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, [record(1), record(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0\0\0\n" + lines[2])
    with pytest.raises(UsageError, match=r"part-000.jsonl' is damaged in line 2; move it away"):
        merged(tmp_path, head())


@pytest.mark.parametrize(
    "line",
    [
        "5",
        '"abcdefg"',
        "{}",
        "[]",
        '["star", "normal", "CFG", 2.5, "a", 1, {"alignment": 1}]',
        '["star", "normal", "CFG", 2.5, "a", 1, {"alignment": 1, "fidelity": "x"}]',
        '["star", "normal", "CFG", 2.5, ["a"], 1, {"alignment": 1, "fidelity": 1}]',
        '["star", "normal", "CFG", 2.5, "a", "1", {"alignment": 1, "fidelity": 1}]',
        '["star", "normal", "CFG", 2.5, "a", 1, 2, {"alignment": 1, "fidelity": 1}]',
        "[" * 100_000,
    ],
)
def test_a_line_that_no_run_writes_is_damage(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, [record(1), record(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + line.encode() + b"\n" + lines[2])
    for read in (finished, merged):
        with pytest.raises(UsageError, match=r"part-000.jsonl' is damaged in line 2; move it away"):
            read(tmp_path, head())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 4}, "steps"),
        ({"models": {"a": "1f"}}, "models"),
        ({"version": "2"}, "version"),
        ({"methods": {"CFG": {}}}, "methods"),
        ({"rules": {}}, "rules"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    write(tmp_path, [record(1)])
    for read in (finished, merged):
        with pytest.raises(
            UsageError, match=f"belongs to another run, with another {named}; choose another --out"
        ):
            read(tmp_path, head(**change))
    with pytest.raises(UsageError), part_file(tmp_path, 0, head(**change)):
        raise AssertionError("it was opened")
    assert finished(tmp_path, head()) == {record(1).key}


def test_another_machine_is_the_same_run(tmp_path: Path) -> None:
    write(tmp_path, [record(1)])
    assert finished(tmp_path, head(machine={"device": "cuda"})) == {record(1).key}


def test_parts_of_several_processes_are_one_run(tmp_path: Path) -> None:
    write(tmp_path, [record(3), record(1)], process=0)
    write(tmp_path, [record(2), record(1, fidelity=0.75)], process=1)
    both = merged(tmp_path, head())
    assert both.seed.tolist() == [1, 2, 3]
    assert both.scores["fidelity"].tolist() == [0.25] * 3  # of two with one key the first


@pytest.mark.parametrize("scores", [{"alignment": 1.0}, {"alignment": 1.0, "fidelity": float("nan")}])
def test_scores_that_the_head_does_not_name_are_refused(tmp_path: Path, scores: dict[str, float]) -> None:
    with part_file(tmp_path, 0, head()) as part, pytest.raises(ValueError, match="finite numbers"):
        part.add([Record("star", "normal", "CFG", 2.5, "a", 1, scores)])


def test_the_result_gives_every_record_back_in_the_steps_of_its_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = [
        record(seed, subject, float(rng.random()), scale)
        for subject in ("ball", "star")
        for scale in (1.25, 2.5)
        for seed in range(5)
    ]
    results = in_columns(head(), records)
    save(results, tmp_path / "results.json")
    again = load(tmp_path / "results.json")
    assert again.head == results.head
    for name in ("subject", "training", "method", "scale", "prompt", "seed"):
        assert np.array_equal(getattr(again, name), getattr(results, name)), name
    assert np.array_equal(again.scores["alignment"], results.scores["alignment"])
    difference = again.scores["fidelity"] - results.scores["fidelity"]
    assert 0 < np.abs(difference).max() <= 0.0005 + 1e-12


def test_a_full_result_is_small(tmp_path: Path) -> None:
    records = [record(seed, subject, seed / 90_000) for subject in "abc" for seed in range(30_000)]
    save(in_columns(head(), records), tmp_path / "results.json")
    assert (tmp_path / "results.json").stat().st_size < 1_500_000


def test_some_records_can_be_chosen(tmp_path: Path) -> None:
    results = in_columns(head(), [record(seed) for seed in range(4)])
    odd = results.where(results.scores["alignment"] == 1)
    assert odd.seed.tolist() == [1, 3] and len(odd) == 2
    assert odd.scores["fidelity"].tolist() == [0.25, 0.25]


@pytest.mark.parametrize("values", ["[]", '{"fidelity": [NaN]}', '{"fidelity": [Infinity]}'])
@pytest.mark.parametrize("seed", ["1", "9" * 30])
def test_a_damaged_cell_is_no_result(tmp_path: Path, values: str, seed: str) -> None:
    path = tmp_path / "results.json"
    known = '{"format": 1, "scores": {"fidelity": {"step": 0.1}}}'
    cell = f'["a", "normal", "PG", 3, 0, {values}]'
    path.write_text(
        f'{{"head": {known}, "prompts": ["x"], "grids": [[[0], [{seed}]]], "cells": [{cell}]}}',
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match="holds no results of evaluate"):
        load(path)


def damaged(folder: Path, **parts: object) -> Path:
    """Write a whole file of results with one picture, but for these parts of it or of its head."""
    told = {"format": 1, "scores": {"fidelity": {"step": 0.1}}, "methods": {"PG": {"settings": {}}}}
    whole: dict[str, object] = {
        "prompts": ["x"],
        "grids": [[[0], [1]]],
        "cells": [["a", "normal", "PG", 3, 0, {"fidelity": [5]}]],
    }
    known = {name: value for name, value in parts.items() if name in whole}
    whole |= known
    whole["head"] = told | {name: value for name, value in parts.items() if name not in known}
    path = folder / "results.json"
    path.write_text(json.dumps(whole).replace('"far"', "1e999"), "utf-8")
    return path


def test_a_small_whole_file_is_read(tmp_path: Path) -> None:
    assert load(damaged(tmp_path)).scores["fidelity"].tolist() == [0.5]


@pytest.mark.parametrize(
    "cell",
    [
        ["a", "normal", "PG", 3, -1, {"fidelity": [5]}],
        ["a", "normal", "PG", 3, 0, {"fidelity": [5, 6]}],
        ["a", "normal", "PG", 3, 0, {"fidelity": [5], "other": [5]}],
        ["a", "normal", "PG", 3, 0, {"fidelity": ["far"]}],
        ["a", "normal", "PG", "far", 0, {"fidelity": [5]}],
        ["a", None, "PG", 3, 0, {"fidelity": [5]}],
    ],
)
def test_a_cell_that_is_not_whole_is_no_result(tmp_path: Path, cell: list[object]) -> None:
    with pytest.raises(UsageError, match="holds no results of evaluate"):
        load(damaged(tmp_path, cells=[cell]))


@pytest.mark.parametrize(
    "parts",
    [
        {"prompts": [5]},
        {"grids": [[[-1], [1]]]},
        {"grids": [[[0], [1.5]]]},
        {"scores": {}, "cells": []},
        {"scores": {"fidelity": {"step": "far"}}},
        {"scores": {"fidelity": {"step": 0}}},
        {"scores": {"fidelity": 5}},
        {"methods": 5},
        {"methods": {"PG": 5}},
        {"methods": {"PG": {"settings": []}}},
        {"methods": {"PG": {"settings": {"start": "early"}}}},
        {"methods": {"PG": {"scales": ["large"]}}},
        {"axes": []},
        {"reference": None},
        {"reference": [1]},
        {"reference": ["low", "low"]},
        {"notes": 5},
        {"rules": {"star": {}}},
        {"rules": {"star": 5}},
        {"machine": json.loads("[" * 500 + "]" * 500)},
    ],
)
def test_a_head_that_cannot_be_reported_on_is_no_result(tmp_path: Path, parts: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="holds no results of evaluate"):
        load(damaged(tmp_path, **parts))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_BYTES_MAX", 1 << 20)
    path = tmp_path / "results.json"
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(UsageError, match="is over 1 MiB"):
        load(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"head": {"format": 1}}', "[" * 100_000, '{"head": 1, "cells": []}']
)
def test_other_files_are_no_results(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="holds no results of evaluate"):
        load(path)


def test_what_is_missing_or_of_another_format_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(tmp_path / "none.json")
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"head": {"format": 99}, "prompts": [], "grids": [], "cells": []}), "utf-8")
    with pytest.raises(UsageError, match="has format 99; this program reads 1"):
        load(path)
