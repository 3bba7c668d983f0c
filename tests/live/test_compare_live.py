"""The script that compares, on a running host; `conftest.py` says how to run it.

Every cell has to be the very picture, with the very parameters, of the single call with its settings.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from tests.live.host import Host, as_png

OFF: dict[str, Any] = {"enabled": False}
FEW = 3  # steps, enough to tell pictures apart


def guided(mode: str, ratio: float) -> dict[str, Any]:
    return {"enabled": True, "mode": mode, "weak_ratio": ratio}


def values_of(case: str, host: Host, prompt: str) -> dict[str, Any]:
    """Return what the API is told in a case."""
    if case == "img2img":
        return {"init_images": [as_png(host.txt2img(prompt).picture)], "denoising_strength": 0.7}
    cases: dict[str, dict[str, Any]] = {
        "txt2img": {"scales": "4, 7"},
        "hires": {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.8},
        "batch": {"batch_size": 2, "n_iter": 2},
        "schedule": {"args": {"schedule": "Linear", "weak_ratio_end": 1.0, "weak_ratio": 0.5}},
    }
    return cases[case]


@pytest.mark.parametrize("case", ["txt2img", "img2img", "hires", "batch", "schedule"])
def test_every_cell_is_the_single_call_s_picture(host: Host, prompt: str, case: str) -> None:
    values = {"steps": FEW, **values_of(case, host, prompt)}
    own, scales = values.pop("args", {}), values.pop("scales", "7")
    ratio = own.get("weak_ratio", 0.7)
    compared = host.compare(
        prompt, ["PG", "AG", "CFG"], f"0, {ratio}", scales, args=own | {"enabled": False}, **values
    )
    rows = [int(scale) for scale in scales.split(",")]
    columns = (OFF, guided("AG", ratio), guided("PG", ratio))
    cells = [(settings, scale) for scale in rows for settings in columns]
    cells += [(guided("PG", 0), scale) for scale in rows]  # the strip's others are those of the methods
    pictures, infotexts = [], []
    for settings, scale in cells:
        single = host.txt2img(prompt, args=own | settings, cfg_scale=scale, **values)
        grids = len(single.pictures) - values.get("batch_size", 1) * values.get("n_iter", 1)
        pictures += single.pictures[grids:]
        infotexts += single.infotexts[grids:]
    assert compared.infotexts[2:] == infotexts
    for ours, theirs in zip(compared.pictures[2:], pictures, strict=True):
        assert np.array_equal(ours, theirs)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_the_sheets_say_what_was_compared(host: Host, prompt: str) -> None:
    compared = host.compare(prompt, ["CFG", "PG"], "0-1 [3]", steps=FEW)
    methods, strip = compared.pictures[:2]
    # A label stands above the pictures, which are as they are alone.
    assert methods.shape[0] == strip.shape[0] > 128
    assert np.array_equal(methods[-128:], np.hstack(compared.pictures[2:4]))
    assert np.array_equal(strip[-128:], np.hstack(compared.pictures[4:7]))
    for index in (0, 1):
        parameters = compared.parameters(index)
        assert parameters["Script"] == "Personalization guidance: compare"
        assert parameters["Compare methods"] == "CFG, PG"
        assert parameters["Compare weak ratios"] == "0-1 [3]"
    assert compared.told == []


def test_a_random_seed_is_one_seed(host: Host, prompt: str) -> None:
    compared = host.compare(prompt, ["CFG", "PG"], seed=-1, steps=FEW)
    seeds = {compared.parameters(index)["Seed"] for index in range(3)}
    assert len(seeds) == 1 and seeds != {"-1"}
    again = host.txt2img(prompt, seed=int(seeds.pop()), steps=FEW)
    assert np.array_equal(again.picture, compared.pictures[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["CFG", "PG"], "0-1 (+0.001)"), "must be from 1 to 100 numbers"),
        ((["CFG", "PG"], "0-1 [90]", "1-50"), "at most 100 are made"),
        ((["PG"], "1.5"), "must lie between 0 and 1"),
        (([], "0"), "none is chosen"),
        ((["XY"], "0"), "must be a list of some of"),
    ],
)
def test_what_cannot_be_made_is_told(host: Host, prompt: str, arguments: Any, words: str) -> None:
    refused = host.compare(prompt, *arguments)
    assert refused.pictures == []
    (told,) = refused.told
    assert words in told


def test_what_holds_for_all_cells_is_told_once(host: Host) -> None:
    compared = host.compare("a cat", ["CFG", "AG", "PG"], "0, 1", steps=FEW)
    assert len(compared.pictures) == 2 + 3 + 2
    (told,) = compared.told
    assert "no network" in told


def test_without_the_host_s_grids_there_are_the_cells_alone(host: Host, prompt: str) -> None:
    compared = host.compare(prompt, ["CFG", "PG"], options={"return_grid": False}, steps=FEW)
    assert [picture.shape for picture in compared.pictures] == [(128, 128, 3)] * 2
    assert len(compared.infotexts) == 2


def test_an_interrupt_returns_what_is_finished(host: Host, prompt: str) -> None:
    asked: dict[str, Any] = {"methods": ["CFG", "AG", "PG"], "ratios": "0-1 [4]", "steps": 12}
    whole = host.compare(prompt, **asked)

    def interrupt() -> None:
        for _ in range(6000):
            state = host.call("/sdapi/v1/progress")["state"]
            if state["job_no"] >= 3 and state["sampling_step"] >= 4:
                host.call("/sdapi/v1/interrupt", {})
                return
            time.sleep(0.02)

    host.txt2img(prompt, steps=1)  # the host keeps the state of its last request
    watching = threading.Thread(target=interrupt)
    watching.start()
    part = host.compare(prompt, **asked)
    watching.join()
    assert 4 <= len(part.infotexts) < len(whole.infotexts)
    sheets = [index for index in range(len(part.infotexts)) if "Script" in part.parameters(index)]
    assert sheets in ([0], [0, 1])  # no strip where nothing of it was finished
    for ours, theirs in zip(range(len(sheets), len(part.infotexts)), range(2, 100), strict=False):
        assert part.infotexts[ours] == whole.infotexts[theirs]
        assert np.array_equal(part.pictures[ours], whole.pictures[theirs])
    assert all(part.pictures[index].shape == whole.pictures[index].shape for index in sheets)


def test_nothing_stays_for_the_next_picture(host: Host, prompt: str) -> None:
    before = host.txt2img(prompt, steps=FEW)
    host.compare(prompt, ["AG", "PG"], "0", steps=FEW)
    after = host.txt2img(prompt, steps=FEW)
    assert np.array_equal(before.picture, after.picture) and before.infotexts == after.infotexts
