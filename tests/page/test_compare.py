"""The script that compares: its cells, its sheets, and what the user is told."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lib_pg.page.compare import compare, infotext_fields
from tests.hosts.webui.comparing import RANDOM_SEED, SIZE, Host, Processing, colour

ON = [True, "PG"]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    host.install(monkeypatch)
    return host


def told(p: Processing) -> list[str]:
    return [text.removeprefix("Personalization Guidance: ") for text in p.comments]


def test_the_sheets_come_first_and_then_each_cell_once_with_its_own_settings(host: Host) -> None:
    p = Processing(ON)
    found = compare(p, ["PG", "CFG", "AG"], "0, 0.7")
    assert found.index_of_first_image == 2
    assert found.infotexts[2:] == [
        "seed 5, scale 7.0, enabled False",
        "seed 5, scale 7.0, enabled True, mode AG, weak_ratio 0.7",
        "seed 5, scale 7.0, enabled True, mode PG, weak_ratio 0.7",
        "seed 5, scale 7.0, enabled True, mode PG, weak_ratio 0.0",
    ]
    assert [image.getpixel((0, 0)) for image in found.images[2:]] == [
        colour(text) for text in found.infotexts[2:]
    ]
    assert found.all_seeds == [5] * 4 and found.all_prompts == ["a cat"] * 4
    assert host.labels == [
        (["CFG", "AG, weak ratio 0.7", "PG, weak ratio 0.7"], [""]),
        (["PG, weak ratio 0", "PG, weak ratio 0.7"], [""]),
    ]
    assert pixels(found.images[0]) == [[colour(found.infotexts[index]) for index in (2, 3, 4)]]
    assert pixels(found.images[1]) == [[colour(found.infotexts[index]) for index in (5, 4)]]


def pixels(sheet: Any) -> list[list[Any]]:
    columns, rows = sheet.size[0] // SIZE, sheet.size[1] // SIZE
    return [[sheet.getpixel((x * SIZE, y * SIZE)) for x in range(columns)] for y in range(rows)]


def test_scales_and_the_pictures_of_a_batch_are_rows(host: Host) -> None:
    found = compare(Processing(ON, batch_size=2, n_iter=1, seed=-1), ["PG"], "", "3, 4")
    assert host.labels[0][1] == [
        f"CFG scale {scale}, seed {RANDOM_SEED + index}" for scale in (3, 4) for index in (0, 1)
    ]
    assert found.all_seeds == [RANDOM_SEED, RANDOM_SEED + 1] * 2
    assert pixels(found.images[0]) == [[colour(text)] for text in found.infotexts[1:]]
    assert "the host's own grid" not in found.infotexts


def test_the_request_itself_does_not_change_but_for_its_seed(host: Host) -> None:
    def spoil(p: Processing) -> None:
        p.styles.append("x")
        p.override_settings["x"] = p.extra_generation_params["x"] = 1

    host.before = spoil
    p = Processing(ON, styles=["mine"], override_settings={"mine": 1})
    compare(p, ["CFG", "AG"], "")
    assert (p.styles, p.override_settings, p.cfg_scale) == (["mine"], {"mine": 1}, 7.0)
    assert not hasattr(p, "pg_overrides") and not p.do_not_save_grid
    assert [cell.styles for cell in host.made] == [["mine", "x"]] * 2


def test_progress_knows_all_cells_from_the_start(host: Host) -> None:
    jobs: list[str] = []
    host.before = lambda p: jobs.append(host.state.job)
    compare(Processing(ON, n_iter=2, enable_hr=True, hr_second_pass_steps=3), ["CFG", "PG"], "0")
    assert jobs == ["1 out of 3", "2 out of 3", "3 out of 3"]
    assert host.state.job_count == 6 and host.total == 3 * 2 * (8 + 3)


@pytest.mark.parametrize(("word", "kept"), [("interrupted", 1), ("stopping_generation", 2)])
def test_a_stop_keeps_the_finished_cells_alone(host: Host, word: str, kept: int) -> None:
    host.before = lambda p: setattr(host.state, word, len(host.made) == 1)
    found = compare(Processing(ON), ["CFG", "AG", "PG"], "0.1, 0.2")
    assert len(host.made) == 2
    assert len(found.images) == 1 + kept  # of the strip there is nothing
    assert pixels(found.images[0])[0][kept:] == [(0, 0, 0)] * (3 - kept)


def test_a_stop_in_the_first_cell_leaves_nothing(host: Host) -> None:
    host.before = lambda p: setattr(host.state, "interrupted", True)
    found = compare(Processing(ON), ["CFG", "PG"], "")
    assert found.images == [] and host.saved == []


def test_a_skipped_cell_is_left_empty_and_the_next_one_is_made(host: Host) -> None:
    host.before = lambda p: setattr(host.state, "skipped", len(host.made) == 1)
    found = compare(Processing(ON), ["CFG", "AG", "PG"], "")
    row = [colour(found.infotexts[1]), (0, 0, 0), colour(found.infotexts[2])]
    assert pixels(found.images[0]) == [row]


def test_the_first_cell_s_error_is_the_host_s_own_and_a_later_one_keeps_what_there_is(host: Host) -> None:
    def fail(p: Processing) -> None:
        if len(host.made) == failing:
            raise RuntimeError("out of memory")

    host.before, failing = fail, 0
    with pytest.raises(RuntimeError, match="out of memory"):
        compare(Processing(ON), ["CFG", "PG"], "")
    failing = 1
    found = compare(Processing(ON), ["CFG", "AG", "PG"], "")
    assert len(found.images) == 2
    (sentence,) = found.comments.splitlines()
    assert "ended early" in sentence and "cell 2 of 3" in sentence and "out of memory" in sentence


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((["XY"],), "Methods: got \"['XY']\", must be a list of some of 'CFG', 'AG', 'PG'"),
        (("PG",), "Methods"),
        (([],), "none is chosen"),
        ((["PG"], "0, x"), "Weak ratios: got 'x', which cannot be read"),
        ((["PG"], "2"), "between 0 and 1"),
        ((["PG"], 0.5), "must be a text"),
        ((["PG"], "0", "0.5"), "CFG scales: got '0.5', must lie between 1 and 100"),
        ((["PG"], "0-1 [60]", "2, 3"), "122 cells are asked for, and at most 100"),
        ((["PG"], "0-1 [50]", ""), "megapixels"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is(host: Host, given: Any, words: str) -> None:
    host.opts.img_max_size_mp = 40 * SIZE * SIZE / 1e6
    p = Processing(ON)
    found = compare(p, *given)
    assert found.images == [] and host.made == []
    (sentence,) = told(p)
    assert "nothing is compared" in sentence and words in sentence
    assert found.extra_generation_params["Personalization Guidance"] == [sentence]


def test_a_wrong_accordion_is_told_once(host: Host) -> None:
    p = Processing([{"weak_ratio": 7}])
    assert compare(p, ["CFG", "PG"], "0").images == [] and host.made == []
    assert "weak_ratio: got 7" in told(p)[0]


def test_the_size_is_that_after_hires_fix_and_counts_the_batch(host: Host) -> None:
    host.opts.img_max_size_mp = 4 * 2 * SIZE * SIZE / 1e6
    fits = Processing(ON, enable_hr=True, batch_size=2)
    assert len(compare(fits, ["PG"], "").images) == 3
    assert compare(Processing(ON, enable_hr=True, batch_size=3), ["PG"], "").images == []
    assert compare(Processing(ON, enable_hr=True, hr_resize_x=7 * SIZE), ["PG"], "").images == []


def test_the_host_s_options_say_what_becomes_of_sheets(host: Host) -> None:
    host.opts.return_grid = False
    host.opts.grid_format = "webp"
    found = compare(Processing(ON), ["CFG", "PG"], "0", "")
    assert len(found.images) == 3 and found.index_of_first_image == 0
    (first, path, given), _ = host.saved
    assert path == "grids/pg_compare" and given["extension"] == "webp" and given["grid"]
    assert given["short_filename"] and given["seed"] == 5
    assert first.info["parameters"] == given["info"]
    assert given["info"].endswith(
        "mode PG, weak_ratio 0.7, Script Personalization guidance: compare, "
        "Compare methods CFG, PG, Compare weak ratios 0"
    )
    host.saved.clear()
    host.labels.clear()
    compare(Processing(ON, do_not_save_grid=True), ["CFG", "PG"], "0", "")
    assert host.saved == [] and host.labels == []


def test_a_request_s_own_options_count_as_in_the_host(host: Host) -> None:
    """The host has them only while it makes a picture."""
    own = {"return_grid": False, "grid_save": False}
    found = compare(Processing(ON, override_settings=own), ["CFG", "PG"], "0")
    assert len(found.images) == 3 and host.labels == host.saved == []
    host.opts.img_max_size_mp = 0
    own = {"img_max_size_mp": 200, "grid_format": "jpg"}
    assert len(compare(Processing(ON, override_settings=own), ["CFG", "PG"], "").images) == 3
    assert host.saved[0][2]["extension"] == "jpg"


def test_masks_are_no_pictures(host: Host) -> None:
    host.opts.return_mask = True
    found = compare(Processing(ON, mask_for_overlay="a mask", batch_size=2), ["CFG", "PG"], "")
    assert [image.getpixel((0, 0)) for image in found.images[1:]] == [
        colour(text) for text in found.infotexts[1:]
    ]
    assert len(found.images) == 5


def test_pasting_a_sheet_s_parameters_sets_what_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(update=lambda **given: given))
    (methods, pasted), *others = infotext_fields(["methods", "ratios", "scales"])
    assert methods == "methods" and callable(pasted)
    assert pasted({"Compare methods": "CFG, PG, other"}) == {"value": ["CFG", "PG"]}
    assert pasted({}) == {}
    assert others == [("ratios", "Compare weak ratios"), ("scales", "Compare CFG scales")]
