"""The page and its plots, from a file of results to a folder."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.part_files import run_of
from lib_pg.cli.evaluate.records import Results, save
from lib_pg.cli.evaluate.report.compare import compare
from lib_pg.cli.evaluate.report.pictures import best_scales, write_grid
from lib_pg.cli.evaluate.report.study import study_of
from lib_pg.cli.evaluate.report.write import write_report
from tests.cli.evaluate.report_studies import DRAWS, METHODS, results, section, written

GAINS = {
    "CFG": 0.0,
    "PG 0.5": 0.1,
    "PG 0.75": 0.0,
    "AG 0.5": -0.1,
    "PG falling": 0.02,
    "PG half, then None": 0.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    written(folder, results(GAINS, noise=0.02, trainings=("normal", "over")))
    return folder / "docs"


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "evidence.md").read_text("utf-8")


def test_every_plot_is_shown_and_every_picture_shown_is_there(folder: Path, page: str) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert sorted(shown) == sorted(path.name for path in folder.glob("*.png"))
    assert {f"evidence-front-{training}.png" for training in ("normal", "over")} < set(shown)
    for name in shown:
        with Image.open(folder / name) as image:
            assert image.width > 400
            assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50


def test_it_says_who_wins_and_who_loses(page: str) -> None:
    line = next(each for each in section(page, "In short").splitlines() if each.startswith("- hypervolume: "))
    told = dict(re.findall(r"\*([^*]+)\*: ((?:`[^`]+`(?:, )?)+)", line))
    better = " ".join(methods for verdict, methods in told.items() if verdict.startswith("more"))
    worse = " ".join(methods for verdict, methods in told.items() if verdict.startswith("less"))
    assert "`PG 0.5`" in better and "`AG 0.5`" not in better
    assert "`AG 0.5`" in worse and "`PG 0.5`" not in worse


def test_it_says_where_cfg_is_better(page: str) -> None:
    lost = section(page, "Where plain CFG is better")
    rows = {line.split("`")[1]: line for line in lost.splitlines() if line.startswith("| `")}
    assert list(rows) == [method for method in METHODS if method in GAINS and method != "CFG"]
    assert rows["AG 0.5"].endswith("| **less**: normal, over |")
    assert rows["PG 0.5"].endswith("| - |")
    assert "not shown: normal, over" in rows["PG half, then None"]


def test_presets_that_were_measured_have_their_figures(page: str) -> None:
    rows = [line for line in section(page, "The extension's presets").splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| Keep the subject", "| Half price"]
    for training, cell in zip(("normal", "over"), rows[2].split(" | ")[2:], strict=True):
        (own,) = [
            line for line in section(page, f"Training: {training}").splitlines()
            if line.startswith("| `PG 0.5` | ") and len(line.split(" | ")) == 7
        ]  # fmt: skip
        scale, difference = own.split(" | ")[1], own.split(" | ")[5]
        assert cell.startswith(f"{difference} at {scale}, CFG at ")


def test_the_figures_are_those_of_the_comparison(page: str) -> None:
    found = compare(study_of(results(GAINS, noise=0.02, trainings=("normal",))), DRAWS)[0]
    row = next(
        line for line in section(page, "Training: normal").splitlines() if line.startswith("| `PG 0.5`")
    )
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    finding = found.find("PG 0.5")
    assert finding is not None
    assert cells[1] == f"{finding.front.scale:g}"
    assert float(cells[2]) == pytest.approx(finding.alignment.value, abs=1e-3)  # the file is rounded
    assert float(cells[3]) == pytest.approx(finding.fidelity.value, abs=1e-3)
    assert float(cells[4]) == pytest.approx(finding.volume.value, abs=1e-3)


def test_it_says_how_it_was_made_and_how_few_subjects_there_are(page: str) -> None:
    facts = section(page, "What made these numbers")
    for fact in (
        "steps: 25",
        "seeds: 2, from 0 to 1",
        "device cpu",
        "unet abc",
        f"pictures: {2 * 48 * 6 * 4}",
    ):
        assert fact in facts
    assert "48 pictures a setting; 3 subjects" in section(page, "Training: over")
    assert "Here are 3 subjects. As few as they are" in section(page, "How to read this")
    assert "`results.json`" in page.splitlines()[2] or "`../results.json`" in page.splitlines()[2]


def test_the_same_results_make_the_same_page_and_plots(tmp_path: Path) -> None:
    given = results({"CFG": 0.0, "PG 0.5": 0.1}, subjects=2, prompts=4)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, given)
    files = sorted((tmp_path / "one" / "docs").iterdir())
    assert len(files) == 3
    for path in files:
        assert (tmp_path / "other" / "docs" / path.name).read_bytes() == path.read_bytes()


def test_one_subject_and_cfg_alone_make_a_page(tmp_path: Path) -> None:
    page = written(tmp_path, results({"CFG": 0.0}, subjects=1))
    assert "Here is one subject: nothing is said of others." in page
    assert "Where plain CFG is better" not in page


def test_without_cfg_the_page_says_so(tmp_path: Path) -> None:
    page = written(tmp_path, results({"PG 0.5": 0.0}))
    assert "CFG was not measured" in page
    assert not (tmp_path / "docs" / "evidence-differences.png").exists()


def test_names_of_users_cannot_change_the_page(tmp_path: Path) -> None:
    given = results({"CFG": 0.0, "PG 0.5": 0.0}, subjects=1)
    nasty = "x`|<script>\n## In short ![a](b)"
    given = replace(given, subject=given.subject.astype("U60"), training=given.training.astype("U60"))
    given.subject[:] = nasty
    given.training[:] = nasty
    page = written(tmp_path, given)
    assert page.count("\n## In short") == 1
    assert "<script>" not in page.replace("`x'/<script> ## In short ![a](b)`", "").replace("\\<script\\>", "")
    assert all(line.count("|") > 2 for line in page.splitlines() if line.startswith("|"))


def test_errors_of_the_rules_are_told(tmp_path: Path) -> None:
    spread = {"mean": 0.9, "lowest": 0.8, "highest": 0.95}
    rules = {
        "star": {
            "missed": {"alignment": 0.05, "place": 0.01},
            "wrongly seen": {"place": 0.125},
            "likeness": spread,
            "likeness of others": {**spread, "mean": 0.1, "lowest": 0.0},
        }
    }
    given = results({"CFG": 0.0}, subjects=1)
    page = written(tmp_path, replace(given, head={**given.head, "rules": rules}))
    row = "| `star` | 5.0% | 1.0% | 12.5% | 0.900 (0.800 to 0.950) | 0.100 (0.000 to 0.950) |"
    assert row in section(page, "How far the rules can be trusted")
    assert "rules" not in section(page, "What made these numbers")


def test_a_grid_beside_the_results_comes_along(tmp_path: Path) -> None:
    given = results({"CFG": 0.0}, subjects=1)
    grid(tmp_path / "evidence-pictures.png", given)
    page = written(tmp_path, given)
    assert "](evidence-pictures.png)" in page
    assert (tmp_path / "docs" / "evidence-pictures.png").exists()


def test_a_grid_of_the_same_run_that_lies_there_is_shown(tmp_path: Path) -> None:
    """A note that was added since does not make it another run."""
    given = results({"CFG": 0.0}, subjects=1)
    grid(tmp_path / "docs" / "evidence-pictures.png", given)
    page = written(tmp_path, replace(given, head={**given.head, "notes": ["another"]}))
    assert "](evidence-pictures.png)" in page


@pytest.mark.parametrize("where", ["", "docs"])
@pytest.mark.parametrize("kind", ["another run", "no run", "no picture"])
def test_a_grid_of_anything_else_is_not_shown(
    tmp_path: Path, where: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given, path = results({"CFG": 0.0}, subjects=1), tmp_path / where / "evidence-pictures.png"
    if kind == "another run":
        grid(path, replace(given, head={**given.head, "steps": 7}))
    elif kind == "no run":
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(path)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x89PNG")
    before = path.read_bytes()
    assert "evidence-pictures" not in written(tmp_path, given)
    assert path.read_bytes() == before
    assert ("is not of these results" in capsys.readouterr().err) == (where == "docs")


def grid(path: Path, given: Results) -> None:
    path.parent.mkdir(exist_ok=True)
    write_grid(path, "a star", [], ["CFG"], [("", [Image.new("RGB", (20, 10))])], run_of(given.head))


def test_matplotlib_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(results({"CFG": 0.0}), tmp_path / "results.json")
    monkeypatch.setitem(__import__("sys").modules, "lib_pg.cli.evaluate.report.plots", None)
    with pytest.raises(UsageError, match="matplotlib"):
        write_report(tmp_path / "results.json", tmp_path / "docs")


def test_the_grid_has_a_picture_a_method(tmp_path: Path) -> None:
    colours = {"CFG": (250, 0, 0), "PG 0.5": (0, 0, 250)}
    rows = [
        (f"prompt {row}", [Image.new("RGB", (64, 64), colour) for colour in colours.values()])
        for row in (0, 1)
    ]
    write_grid(
        tmp_path / "grid.png", "a star", [Image.new("RGB", (100, 80), "green")], list(colours), rows, "run"
    )
    with Image.open(tmp_path / "grid.png") as image:
        counts = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert all(counts[colour] == 2 * 128 * 128 for colour in colours.values())


def test_the_grids_scales_are_the_pages() -> None:
    study = study_of(results(GAINS))
    (found,) = compare(study, DRAWS)
    assert best_scales(study, study.groups[0]) == {each.method: each.front.scale for each in found.findings}
