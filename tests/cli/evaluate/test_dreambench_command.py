"""The protocol from the command line to the page, on small random models."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_pg.cli.evaluate.dreambench import artist, command
from lib_pg.cli.evaluate.dreambench.backbones import load_backbone
from lib_pg.cli.evaluate.dreambench.prompts import OWN
from lib_pg.cli.evaluate.dreambench.scores import Scorer
from lib_pg.cli.evaluate.dreambench.subjects import read_subjects
from lib_pg.cli.evaluate.records import load
from lib_pg.cli.evaluate.report.study import study_of
from lib_pg.cli.main import main
from lib_pg.cli.shares import Share
from tests.checkpoints import moved
from tests.cli.evaluate.dreambench_models import arguments, save_all
from tests.pipelines import sd_pipeline

Run = Callable[..., int]
PICTURES = 2 * 2 * 2 * 2  # subjects, prompts, methods, scales


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return models and subjects with a whole run of them, its page included."""
    folder = tmp_path_factory.mktemp("dreambench")
    save_all(folder)
    assert main(arguments(folder, folder / "whole")) == 0
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the protocol with changed options, all but the page, which takes long."""
    monkeypatch.setattr(command, "write_report", lambda results, out: out / "evidence.md")

    def evaluate(out: Path, **changed: str) -> int:
        return main(arguments(folder, out, **changed))

    return evaluate


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many pictures each call of a pipeline made."""
    made: list[int] = []
    original = artist.Model._make

    def counted(self: artist.Model, *given: object) -> list[Image.Image]:
        images = original(self, *given)  # type: ignore[arg-type]
        made.append(len(images))
        return images

    monkeypatch.setattr(artist.Model, "_make", counted)
    return made


def test_every_setting_has_the_same_pictures_and_all_scores(folder: Path) -> None:
    results = load(folder / "whole" / "results.json")
    assert len(results) == PICTURES
    assert set(results.scores) == {"clip_t", "clip_i", "dino", "dinov2"}
    assert set(results.subject) == {"mug", "rex"}
    cells: dict[tuple[str, float], set[object]] = {}
    for row in zip(results.method, results.scale, results.subject, results.prompt, results.seed, strict=True):
        cells.setdefault(row[:2], set()).add(row[2:])
    assert len(cells) == 4 and len({frozenset(each) for each in cells.values()}) == 1
    assert all(np.abs(column).max() <= 1.001 and np.ptp(column) > 0.01 for column in results.scores.values())
    assert results.head["axes"] == {"alignment": "clip_t", "fidelity": "dino"}


def test_each_record_is_of_the_picture_and_prompt_that_it_names(folder: Path) -> None:
    """Every picture is scored again by itself, from its file: a swapped one differs by more."""
    results = load(folder / "whole" / "results.json")
    how = artist.How(folder / "sd", None, None, 2, "DPM++ 2M", None, None, "float32", "cpu")
    painter = artist.Artist(how, folder / "whole" / "pictures", print)
    scorer = Scorer(load_backbone(str(folder / "clip"), ("clip",), "cpu", "--clip"), {})
    methods = {method.name: method for method in command.chosen(("CFG", "PG 0.5"), (2.0, 6.0))}
    seen = set()
    for subject in read_subjects(folder / "subjects", folder / "prompts.txt", OWN, None):
        scorer.learn(subject.name, [command.read_reference(path) for path in subject.references])
        with painter.at_work(subject) as model:
            for number in np.flatnonzero(results.subject == subject.name):
                told, seed = str(results.prompt[number]), int(results.seed[number])
                prompt = next(each for each in subject.prompts if each.told == told)
                method, scale = methods[str(results.method[number])], float(results.scale[number])
                path = model.path(method, scale, artist.Shot(prompt, seed))
                (score,) = scorer.score(subject.name, [told.replace("sks ", "")], [Image.open(path)])
                for name, value in score.items():
                    assert results.scores[name][number] == pytest.approx(value, abs=1e-4)
                seen.add((path, *np.round(list(score.values()), 3)))
    assert len(seen) == PICTURES


def test_the_page_names_scores_backbones_and_shows_pictures(folder: Path) -> None:
    page = (folder / "whole" / "evidence.md").read_text("utf-8")
    assert "**CLIP-T**: cosine of picture and prompt without the token, by clip (CLIPModel, sha256 " in page
    assert "**DINO**: mean cosine of picture and reference pictures, by dino (ViTModel, sha256 " in page
    assert "(evidence-pictures.png)" in page
    assert "LoRA lora.safetensors" in page


def test_a_finished_run_makes_nothing_again(run: Run, folder: Path, drawn: list[int], tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    before = (tmp_path / "whole" / "results.json").read_bytes()
    assert run(tmp_path / "whole") == 0
    assert drawn == []
    assert (tmp_path / "whole" / "results.json").read_bytes() == before


def test_a_run_that_was_killed_goes_on(run: Run, folder: Path, drawn: list[int], tmp_path: Path) -> None:
    """Half of the records are lost, the last one in mid-write, and two pictures."""
    shutil.copytree(folder / "whole", tmp_path / "whole")
    (part,) = (tmp_path / "whole" / "records").glob("*/part-000.jsonl")
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:9]) + lines[9][:20])
    lost = sorted((tmp_path / "whole" / "pictures").glob("*/*.png"))
    for path in lost[:2]:
        path.unlink()
    lost[2].write_bytes(lost[2].read_bytes()[:100])
    assert run(tmp_path / "whole") == 0
    assert sum(drawn) <= 3
    whole, again = (load(where / "results.json") for where in (folder / "whole", tmp_path / "whole"))
    for name, column in whole.scores.items():
        np.testing.assert_allclose(again.scores[name], column, atol=2e-3)  # other pictures share a batch


def test_other_references_are_scored_anew_and_nothing_is_drawn(
    run: Run, folder: Path, drawn: list[int], tmp_path: Path
) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    shutil.copytree(folder / "subjects", tmp_path / "subjects")
    shutil.copy(tmp_path / "subjects" / "mug" / "00.png", tmp_path / "subjects" / "rex" / "00.png")
    assert run(tmp_path / "whole", subjects=str(tmp_path / "subjects")) == 0
    assert drawn == []
    whole, other = (load(where / "results.json") for where in (folder / "whole", tmp_path / "whole"))
    rex = whole.subject == "rex"
    np.testing.assert_array_equal(whole.scores["clip_t"], other.scores["clip_t"])
    np.testing.assert_array_equal(whole.scores["dino"][~rex], other.scores["dino"][~rex])
    assert (np.abs(whole.scores["dino"] - other.scores["dino"])[rex] > 1e-3).all()


@pytest.mark.parametrize("changed", ["file", "strength"])
def test_another_fine_tune_is_drawn_anew(
    run: Run, folder: Path, drawn: list[int], tmp_path: Path, changed: str
) -> None:
    """That of one subject: the other one's pictures are kept. Both files have one name."""
    shutil.copytree(folder / "whole", tmp_path / "whole")
    shutil.copytree(folder / "subjects", tmp_path / "subjects")
    if changed == "file":
        shutil.copy(tmp_path / "subjects" / "rex" / "lora.safetensors", tmp_path / "subjects" / "mug")
    else:
        said = {"class": "mug", "strength": 0.5}
        (tmp_path / "subjects" / "mug" / "subject.json").write_text(json.dumps(said), "utf-8")
    assert run(tmp_path / "whole", subjects=str(tmp_path / "subjects")) == 0
    assert sum(drawn) == PICTURES / 2


def test_fewer_prompts_are_a_run_that_ends(
    run: Run, folder: Path, drawn: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It must not wait for others, which are not there."""
    shutil.copytree(folder / "whole", tmp_path / "whole")
    (tmp_path / "few.txt").write_text("a red {0} {1}\n", "utf-8")
    assert run(tmp_path / "whole", prompts=str(tmp_path / "few.txt")) == 0
    assert drawn == []
    results = load(tmp_path / "whole" / "results.json")
    assert set(results.prompt) == {"a red sks mug", "a red sks dog"}
    assert "has done its share" not in capsys.readouterr().err


def test_another_training_is_a_run_that_ends(
    run: Run, folder: Path, drawn: list[int], tmp_path: Path
) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    shutil.copytree(folder / "subjects", tmp_path / "subjects")
    said = {"class": "mug", "training": "long"}
    (tmp_path / "subjects" / "mug" / "subject.json").write_text(json.dumps(said), "utf-8")
    assert run(tmp_path / "whole", subjects=str(tmp_path / "subjects")) == 0
    assert drawn == []
    assert set(load(tmp_path / "whole" / "results.json").training) == {"given", "long"}


def test_the_grid_shows_subjects_with_the_best_scales_of_their_training(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    shutil.copytree(folder / "subjects", tmp_path / "subjects")
    said = {"class": "mug", "training": "long"}
    (tmp_path / "subjects" / "mug" / "subject.json").write_text(json.dumps(said), "utf-8")
    best = {"long": 2.0, "given": 6.0}
    grids: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        command, "best_scales", lambda _, group: dict.fromkeys(("CFG", "PG 0.5"), best[group.training])
    )
    monkeypatch.setattr(command, "write_grid", lambda *given: grids.append(given))
    assert run(tmp_path / "whole", subjects=str(tmp_path / "subjects")) == 0
    ((_, title, _, columns, rows, _),) = grids
    assert title.startswith("Training: long;")
    assert columns == ["reference", "CFG at 2", "PG 0.5 at 2"]
    assert [label for label, _ in rows] == ["a sks mug in the snow"]


def test_the_grid_is_of_the_scores_that_the_page_has(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    shown: list[Any] = []
    monkeypatch.setattr(command, "study_of", lambda results: shown.append(results) or study_of(results))
    assert run(tmp_path / "whole") == 0
    kept = load(tmp_path / "whole" / "results.json")
    assert all(np.array_equal(shown[0].scores[name], column) for name, column in kept.scores.items())


def test_what_a_picture_is_scored_against_decides_its_score(
    run: Run, folder: Path, drawn: list[int], tmp_path: Path
) -> None:
    """The same words are drawn, but the token is a part of the prompt that CLIP reads."""
    shutil.copytree(folder / "whole", tmp_path / "whole")
    (tmp_path / "prompts.txt").write_text("a sks {1} in the snow\na red sks {1}\n", "utf-8")
    assert run(tmp_path / "whole", prompts=str(tmp_path / "prompts.txt")) == 0
    assert drawn == []
    whole, other = (load(where / "results.json") for where in (folder / "whole", tmp_path / "whole"))
    assert np.array_equal(whole.prompt, other.prompt)
    assert (np.abs(whole.scores["clip_t"] - other.scores["clip_t"]) > 1e-3).all()


def test_one_side_alone_decides_a_picture(run: Run, folder: Path, drawn: list[int], tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    assert run(tmp_path / "whole", height="32") == 0
    assert sum(drawn) == PICTURES


def test_another_configuration_is_another_run(
    run: Run, folder: Path, drawn: list[int], tmp_path: Path
) -> None:
    shutil.copytree(folder / "whole", tmp_path / "whole")
    assert run(tmp_path / "whole", config=str(folder / "sd")) == 0
    assert sum(drawn) == PICTURES


def test_no_pixels_are_not_the_models_own(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "out", width="0") == 2
    assert "width is 0; it must be a multiple of" in capsys.readouterr().err


def test_processes_share_the_work(
    run: Run,
    folder: Path,
    drawn: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two of them, one after the other; the last one reports."""
    for index in range(2):
        monkeypatch.setattr(command, "own_share", lambda index=index: Share(index, 2, index))
        assert run(tmp_path / "out", batch="1") == 0
        assert (tmp_path / "out" / "results.json").exists() == (index == 1)
    assert len(list((tmp_path / "out" / "records").glob("*/part-*.jsonl"))) == 2
    assert sum(drawn) == PICTURES
    whole, shared = (load(where / "results.json") for where in (folder / "whole", tmp_path / "out"))
    for name, column in whole.scores.items():
        np.testing.assert_allclose(shared.scores[name], column, atol=2e-3)


def test_a_full_fine_tune_is_weakened_to_its_base(run: Run, folder: Path, tmp_path: Path) -> None:
    moved(sd_pipeline()).save_pretrained(tmp_path / "tuned")
    shutil.copytree(folder / "subjects" / "mug", tmp_path / "subjects" / "mug")
    (tmp_path / "subjects" / "mug" / "lora.safetensors").unlink()
    said = {"class": "mug", "checkpoint": "../../tuned"}
    (tmp_path / "subjects" / "mug" / "subject.json").write_text(json.dumps(said), "utf-8")
    changed = {"subjects": str(tmp_path / "subjects"), "base-checkpoint": str(folder / "sd")}
    assert run(tmp_path / "out", **changed) == 0
    results = load(tmp_path / "out" / "results.json")
    assert re.search(
        r"checkpoint tuned \w{16}, base sd \w{16}, 2 pictures \w{16}", results.head["models"]["mug"]
    )
    pg, cfg = (results.scores["dino"][results.method == method] for method in ("PG 0.5", "CFG"))
    assert np.abs(pg - cfg).max() > 1e-4


def test_a_folders_configuration_is_part_of_its_hash(folder: Path, tmp_path: Path) -> None:
    """A scheduler's configuration decides a picture as much as weights do."""
    shutil.copytree(folder / "sd", tmp_path / "sd")
    how = artist.How(None, None, None, 2, "Euler", None, None, "float32", "cpu")

    def hash_of(path: Path) -> str:
        return artist.Artist(how, tmp_path, print).hash_of(path)

    assert hash_of(tmp_path / "sd") == hash_of(folder / "sd")
    path = tmp_path / "sd" / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text("utf-8").replace("0.012", "0.013"), "utf-8")
    assert hash_of(tmp_path / "sd") != hash_of(folder / "sd")


def test_a_base_is_not_taken_for_a_configuration(folder: Path, tmp_path: Path) -> None:
    """One folder can be either, and its base decides a picture otherwise than its configuration."""
    said = {"class": "mug", "checkpoint": "../../sd", "lora": "lora.safetensors"}
    shutil.copytree(folder / "sd", tmp_path / "sd")
    shutil.copytree(folder / "subjects" / "mug", tmp_path / "subjects" / "mug")
    (tmp_path / "subjects" / "mug" / "subject.json").write_text(json.dumps(said), "utf-8")
    (subject,) = read_subjects(tmp_path / "subjects", folder / "prompts.txt", OWN, None)
    method, shot = command.chosen(("PG 0.5",), (2.0,))[0], artist.Shot(subject.prompts[0], 0)
    paths = set()
    for config, base in ((folder / "sd", None), (None, folder / "sd")):
        how = artist.How(None, config, base, 2, "Euler", None, None, "float32", "cpu")
        with artist.Artist(how, tmp_path, print).at_work(subject) as model:
            paths.add(model.path(method, 2.0, shot))
    assert len(paths) == 2


def test_a_picture_is_the_one_that_generate_makes(folder: Path, tmp_path: Path) -> None:
    chosen = [
        "--checkpoint",
        str(folder / "sd"),
        "--lora",
        str(folder / "subjects" / "rex" / "lora.safetensors"),
    ]
    how = ["--prompt", "a red sks dog", "--steps", "2", "--scale", "6", "--seed", "0", "--weak-ratio", "0.5"]
    assert main(["generate", *chosen, *how, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.png")
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB")).astype(int)
    kept = [
        np.asarray(Image.open(each)).astype(int) for each in (folder / "whole" / "pictures").glob("*/*.png")
    ]
    assert len(kept) == PICTURES
    differences = sorted(int(np.abs(each - wanted).max()) for each in kept)
    assert differences[0] <= 1 < differences[1]  # a batch of two may round otherwise
