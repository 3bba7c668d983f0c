"""The whole run on subjects that are hardly taught, at two steps: what it writes, after whatever ended it."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate import drawn_run
from lib_pg.cli.evaluate.drawn import CONTEXTS
from lib_pg.cli.evaluate.drawn_plan import Plan, quick
from lib_pg.cli.evaluate.drawn_run import evaluate
from lib_pg.cli.evaluate.fine_tunes import Course
from lib_pg.cli.evaluate.methods import METHODS
from lib_pg.cli.evaluate.pictures import Model, made, ready
from lib_pg.cli.evaluate.records import load
from lib_pg.cli.main import main
from lib_pg.cli.paths import BUNDLED_PIPELINE
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.cli.shares import Share
from lib_pg.hosts.diffusers import load_base_checkpoint, load_network
from training.world import SUBJECTS

STEPS = 2
FEW = 6
PLAN = Plan(
    courses=(
        Course(SUBJECTS[0], "lora", (("normal", 1),)),
        Course(SUBJECTS[0], "full", (("full", 1),), rate=1e-3),
    ),
    methods=tuple(replace(method, scales=(2.5,)) for method in METHODS if method.name in ("CFG", "PG 0.5")),
    contexts=CONTEXTS[:FEW],
    pictures_min=FEW,
)
CELLS = 4


def options(folder: Path, out: str = "out") -> argparse.Namespace:
    return argparse.Namespace(
        device="cpu", cache=folder / "cache", out=folder / out, quick=False, seed=0, steps=STEPS, batch=4
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    assert evaluate(options(folder), PLAN) == 0
    return folder


def test_results_have_their_page_and_a_grid_of_pictures(folder: Path) -> None:
    page = (folder / "out" / "evidence.md").read_text("utf-8")
    assert "](evidence-pictures.png)" in page
    assert Image.open(folder / "out" / "evidence-pictures.png").width > 200
    assert "true drawings through the model's autoencoder" in page


def test_every_cell_has_the_same_pictures(folder: Path) -> None:
    results = load(folder / "out" / "results.json")
    assert len(results) == CELLS * FEW
    cells = set(zip(results.training, results.method, strict=True))
    assert cells == {(training, name) for training in ("normal", "full") for name in ("CFG", "PG 0.5")}
    asked = {
        cell: sorted(
            (prompt, seed)
            for training, method, prompt, seed in zip(
                results.training, results.method, results.prompt, results.seed, strict=True
            )
            if (training, method) == cell
        )
        for cell in cells
    }
    first = next(iter(asked.values()))
    assert all(each == first for each in asked.values())
    assert len({seed for _, seed in first}) == FEW


def test_the_head_says_what_decided(folder: Path) -> None:
    head = load(folder / "out" / "results.json").head
    assert (head["protocol"], head["steps"], head["seed"]) == ("bundled", STEPS, 0)
    assert set(head["models"]) == {"base", "star, normal", "star, full"}
    assert set(head["rules"]) == {"star"}
    assert [each["stops"] for each in head["courses"]] == [[["normal", 1]], [["full", 1]]]


@pytest.mark.parametrize("quickly", [False, True])
def test_the_page_names_the_command_that_made_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quickly: bool
) -> None:
    """The records of the other one are the same run here, which has a plan of its own."""
    shutil.copytree(folder / "out", tmp_path / "out")
    asked = options(folder)
    asked.out, asked.quick = tmp_path / "out", quickly
    monkeypatch.setattr(drawn_run, "draw_grid", lambda *given: None)
    assert evaluate(asked, PLAN) == 0
    page = (tmp_path / "out" / "evidence.md").read_text("utf-8")
    how = "--bundled --quick" if quickly else "--bundled"
    assert f"- command: python -m lib\\_pg evaluate {how} --steps {STEPS} --seed 0\n" in page


def test_the_grid_is_of_the_scores_that_the_page_has(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two scales that are nearly as good, rounding may make another the best one."""
    shutil.copytree(folder / "out", tmp_path / "out")
    asked, shown = options(folder), []
    asked.out = tmp_path / "out"
    monkeypatch.setattr(drawn_run, "draw_grid", lambda results, *given: shown.append(results))
    assert evaluate(asked, PLAN) == 0
    kept = load(tmp_path / "out" / "results.json")
    assert all(np.array_equal(shown[0].scores[name], column) for name, column in kept.scores.items())


def test_guidance_was_at_work_in_both_kinds(folder: Path) -> None:
    results = load(folder / "out" / "results.json")
    for training in ("normal", "full"):
        cfg, pg = (
            results.where((results.training == training) & (results.method == name))
            for name in ("CFG", "PG 0.5")
        )
        assert np.array_equal(cfg.seed, pg.seed)
        assert not np.array_equal(cfg.scores["fidelity"], pg.scores["fidelity"]), training


def test_a_killed_run_makes_what_is_missing_and_no_more(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    def counted(*arguments: object) -> object:
        batches.append(arguments[3])
        if len(batches) == 4:  # in the second cell, of two batches each
            raise KeyboardInterrupt
        return made(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(drawn_run, "made", counted)
    asked = options(folder)
    asked.out = tmp_path
    with pytest.raises(KeyboardInterrupt):
        evaluate(asked, PLAN)
    batches[:] = [None] * 4
    assert not (tmp_path / "results.json").exists()
    records = (tmp_path / "part-000.jsonl").read_bytes()
    (tmp_path / "part-000.jsonl").write_bytes(records[:-9])
    kept = max(0, records.count(b"\n") - 2)
    assert evaluate(asked, PLAN) == 0
    assert sum(len(told) for told in batches[4:]) == CELLS * FEW - kept
    before, after = (load(path / "results.json") for path in (folder / "out", tmp_path))
    assert np.array_equal(before.seed, after.seed) and np.array_equal(before.prompt, after.prompt)
    assert np.array_equal(before.scores["alignment"], after.scores["alignment"])
    assert np.allclose(before.scores["fidelity"], after.scores["fidelity"], atol=0.002)


def test_two_processes_share_the_cells(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Share, "wait", lambda self: None)
    asked = options(folder)
    asked.out = tmp_path
    for index in (1, 0):
        monkeypatch.setattr(drawn_run, "own_share", lambda index=index: Share(index, 2, index))
        assert evaluate(asked, PLAN) == 0
    lines = [(tmp_path / f"part-00{index}.jsonl").read_bytes().count(b"\n") - 1 for index in (0, 1)]
    assert lines == [CELLS // 2 * FEW] * 2
    assert (tmp_path / "results.json").read_bytes() == (folder / "out" / "results.json").read_bytes()


def test_another_run_is_not_mixed_in(folder: Path) -> None:
    asked = options(folder)
    asked.steps = STEPS + 1
    with pytest.raises(UsageError, match="another run, with another steps"):
        evaluate(asked, PLAN)


@pytest.mark.parametrize("name", ["CFG", "PG 0.5"])
@pytest.mark.parametrize("training", ["normal", "full"])
def test_a_picture_is_the_one_that_generate_makes(
    folder: Path, tmp_path: Path, training: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    method = next(each for each in PLAN.methods if each.name == name)
    fine_tune = next(each for each in PLAN.fine_tunes(folder / "cache") if each.training == training)
    pictures = PLAN.pictures(fine_tune)[2:5]
    if fine_tune.is_checkpoint:
        pipeline = load_pipeline(fine_tune.path, None, "cpu", "float32")
        model = Model(pipeline, base=load_base_checkpoint(pipeline, BUNDLED_PIPELINE))
        files = ["--checkpoint", str(fine_tune.path), "--base-checkpoint", str(BUNDLED_PIPELINE)]
    else:
        pipeline = load_pipeline(BUNDLED_PIPELINE, None, "cpu", "float32")
        model = Model(pipeline, (load_network(pipeline, fine_tune.path),))
        files = ["--lora", str(fine_tune.path)]
    with ready(model, STEPS):
        told = [(each.prompt, each.seed) for each in pictures]
        batch = made(model, method.settings, 2.5, told, STEPS, pytest.fail)
    asked = ["--prompt", pictures[1].prompt, "--seed", str(pictures[1].seed), "--steps", str(STEPS)]
    guidance = ["--scale", "2.5", "--mode", method.settings.mode]
    guidance += ["--weak-ratio", str(method.settings.weak_ratio)]
    assert main(["generate", *files, *asked, *guidance, "--out", str(tmp_path)]) == 0
    picture = np.asarray(Image.open(capsys.readouterr().out.strip()), dtype=np.int16)
    assert np.abs(picture - batch[1]).max() <= 1  # a batch of three rounds otherwise than one of one
    assert np.abs(picture - batch[0]).max() > 50


def test_the_full_plan_has_enough_pictures_of_every_setting(tmp_path: Path) -> None:
    plan = Plan()
    for amount in ("under", "normal", "over", "lokr", "full"):
        members = [each for each in plan.fine_tunes(tmp_path) if each.training == amount]
        asked = [plan.pictures(each) for each in members]
        assert len({len(pictures) for pictures in asked}) == 1
        assert 256 <= sum(map(len, asked)) < 256 + len(members) * len(CONTEXTS)
        for pictures in asked:
            assert len({(each.prompt, each.seed) for each in pictures}) == len(pictures)
            assert len({each.seed for each in pictures}) == len(pictures)


def test_the_quick_plan_is_a_part_of_the_full_one(tmp_path: Path) -> None:
    plan = Plan()
    full, few = plan.cells(tmp_path), quick(plan).cells(tmp_path)
    assert {each.fine_tune.subject for each in few} == {SUBJECTS[0]}
    named = {(each.fine_tune.training, each.method.name, each.scale) for each in full}
    assert {(each.fine_tune.training, each.method.name, each.scale) for each in few} < named
    assert {each.method.name for each in few} == {method.name for method in METHODS}


def test_shares_are_all_of_it_and_none_twice() -> None:
    items = list(range(11))
    parts = [Share(index, 4, index).of(items) for index in range(4)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Share().of(items) == items
    assert Share(1, 2, 1).device("cpu") == "cpu" and Share(0, 1, 0).device("cuda") == "cuda"
