"""Pages of odd results: one picture, one prompt, many trainings, names that no plot understands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lib_pg.cli.evaluate.records import in_columns, save
from lib_pg.cli.evaluate.report import plots
from lib_pg.cli.main import main
from tests.cli.evaluate.report_studies import METHODS, head, records, results, section, written


@pytest.mark.parametrize("prompts", [1, 2])
def test_one_prompt_says_nothing_of_others(tmp_path: Path, prompts: int) -> None:
    page = written(tmp_path, results({"CFG": 0.0}, subjects=2, prompts=prompts))
    assert ("Here is one prompt a subject: nothing is said of others." in page) == (prompts == 1)


@pytest.mark.parametrize("trainings", [("a b", "a-b"), ("Over", "over"), ("x" * 50 + "y", "x" * 50 + "z")])
def test_every_training_has_its_own_plot(tmp_path: Path, trainings: tuple[str, str]) -> None:
    page = written(tmp_path, results({"CFG": 0.0}, subjects=1, trainings=trainings))
    shown = re.findall(r"\(evidence-front-([^)]+)\.png\)", page)
    assert len({name.lower() for name in shown}) == 2
    assert all((tmp_path / "docs" / f"evidence-front-{name}.png").exists() for name in shown)


def test_as_many_trainings_as_there_are_subjects_have_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One figure is open at a time, and one that would be too wide is left out."""
    opened: list[int] = []
    close = plots.pyplot.close

    def counted(figure: object) -> None:
        opened.append(len(plots.pyplot.get_fignums()))
        close(figure)

    monkeypatch.setattr(plots.pyplot, "close", counted)
    monkeypatch.setattr(plots, "_COLUMNS_MAX", 2)
    trainings = ("one", "two", "three")
    given = results({"CFG": 0.0, "PG 0.5": 0.1}, subjects=1, prompts=2, trainings=trainings)
    page = written(tmp_path, given)
    assert opened == [1, 1, 1]
    assert all(f"(evidence-front-{training}.png)" in page for training in trainings)
    assert "differences.png" not in page


@pytest.mark.parametrize("name", ["a $x^^{$", "a\udce9", "a\nb"])
def test_names_that_no_plot_understands_are_drawn_as_they_are(tmp_path: Path, name: str) -> None:
    given = results({"CFG": 0.0, "PG 0.5": 0.1}, subjects=1, trainings=(name,))
    methods = {**given.head["methods"], name: given.head["methods"]["PG 0.5"]}
    renamed = np.where(given.method == "CFG", "CFG", name)
    page = written(tmp_path, replace(given, method=renamed, head={**given.head, "methods": methods}))
    assert "Training: a" in page
    assert (tmp_path / "docs" / "evidence-differences.png").exists()


def test_two_methods_may_have_one_omega(tmp_path: Path) -> None:
    methods = {**METHODS, "PG, negative": {"mode": "PG", "weak_ratio": 0.5, "weak_prompt": "Negative"}}
    made = records({"CFG": 0.0, "PG 0.5": 0.1, "PG, negative": 0.1}, subjects=1)
    assert "omega.png" in written(tmp_path, in_columns(head(methods), made))


@pytest.mark.parametrize("only", ["CFG", "PG 0.5"])
def test_nothing_is_said_of_methods_that_were_not_measured(tmp_path: Path, only: str) -> None:
    page = written(tmp_path, results({only: 0.0}, subjects=1))
    assert "no difference shown" not in page and "by chance" not in page
    assert ("No other method was measured." in page) == (only == "CFG")
    assert not (tmp_path / "docs" / "evidence-differences.png").exists()


@pytest.mark.parametrize("subjects", [1, 3])
def test_one_picture_shows_no_difference(tmp_path: Path, subjects: int) -> None:
    given = results({"CFG": 0.0, "PG 0.5": 0.01}, subjects=subjects, prompts=1, seeds=1)
    page = written(tmp_path, given)
    short = section(page, "In short")
    assert "more" not in short and "less" not in short
    assert "(one picture a subject: no interval)" in section(page, "Training: normal")
    assert "differences.png" in page


def test_results_on_another_drive_are_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def relpath(path: object, start: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", relpath)
    page = written(tmp_path, results({"CFG": 0.0}, subjects=1))
    assert f"Made of `{(tmp_path / 'results.json').resolve().as_posix()}`" in page


@pytest.mark.parametrize("name", ["evidence.md", "evidence-front-normal.png"])
def test_what_cannot_be_written_names_the_option_of_its_folder(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(results({"CFG": 0.0}, subjects=1), tmp_path / "results.json")
    (tmp_path / "docs" / name).mkdir(parents=True)
    given = ["--report", str(tmp_path / "results.json"), "--docs", str(tmp_path / "docs")]
    assert main(["evaluate", *given]) == 2
    assert re.search(rf"{name}' cannot be written: .*another --docs", capsys.readouterr().err)
