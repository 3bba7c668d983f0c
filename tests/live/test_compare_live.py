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


def guided(mode: str, ratio: float) -> dict[str, Any]:
    return {"enabled": True, "mode": mode, "weak_ratio": ratio}


@pytest.fixture(params=["txt2img", "img2img", "hires", "batch", "schedule"])
def values(request: pytest.FixtureRequest, host: Host, prompt: str) -> dict[str, Any]:
    if request.param == "img2img":
        return {"init_images": [as_png(host.txt2img(prompt).picture)], "denoising_strength": 0.7}
    return {
        "txt2img": {},
        "hires": {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.8},
        "batch": {"batch_size": 2, "n_iter": 2},
        "schedule": {"args": {"schedule": "Linear", "weak_ratio_end": 1.0, "weak_ratio": 0.5}},
    }[request.param]


def test_every_cell_is_the_single_call_s_picture(host: Host, prompt: str, values: dict[str, Any]) -> None:
    own = values.pop("args", {})
    ratio = own.get("weak_ratio", 0.7)
    compared = host.compare(
        prompt, ["PG", "AG", "CFG"], f"0, {ratio}", "4, 7", args=own | {"enabled": False}, **values
    )
    cells = [
        (settings, scale) for scale in (4, 7) for settings in (OFF, guided("AG", ratio), guided("PG", ratio))
    ]
    cells += [(guided("PG", 0), scale) for scale in (4, 7)]  # the strip's others are those of the methods
    pictures, infotexts = [], []
    for settings, scale in cells:
        single = host.txt2img(prompt, args=own | settings, cfg_scale=scale, **values)
        grids = len(single.pictures) - values.get("batch_size", 1) * values.get("n_iter", 1)
        pictures += single.pictures[grids:]
        infotexts += single.infotexts[grids:]
    assert compared.infotexts[2:] == infotexts
    assert len(compared.pictures) == 2 + len(pictures)
    for ours, theirs in zip(compared.pictures[2:], pictures, strict=True):
        assert np.array_equal(ours, theirs)
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_the_sheets_say_what_was_compared(host: Host, prompt: str) -> None:
    compared = host.compare(prompt, ["CFG", "PG"], "0-1 [3]")
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
    compared = host.compare(prompt, ["CFG", "PG"], "", seed=-1)
    seeds = {compared.parameters(index)["Seed"] for index in range(3)}
    assert len(seeds) == 1 and seeds != {"-1"}
    again = host.txt2img(prompt, seed=int(seeds.pop()))
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
    compared = host.compare("a cat", ["CFG", "AG", "PG"], "0, 1")
    assert len(compared.pictures) == 2 + 3 + 2
    (told,) = compared.told
    assert "no network" in told


@pytest.mark.parametrize("options", [{"return_grid": False}, {"return_grid": False, "grid_save": False}])
def test_without_the_host_s_grids_there_are_the_cells_alone(
    host: Host, prompt: str, options: dict[str, Any]
) -> None:
    before = host.call("/sdapi/v1/options")
    try:
        compared = host.compare(prompt, ["CFG", "PG"], "", options=options)
    finally:
        host.txt2img(prompt, steps=1, options={name: before[name] for name in options})
    assert [picture.shape for picture in compared.pictures] == [(128, 128, 3)] * 2
    assert len(compared.infotexts) == 2


def test_an_interrupt_returns_what_is_finished(host: Host, prompt: str) -> None:
    whole = host.compare(prompt, ["CFG", "AG", "PG"], "0-1 [9]", steps=20)

    def interrupt() -> None:
        for _ in range(600):
            state = host.call("/sdapi/v1/progress")["state"]
            if state["job_no"] >= 3 and state["sampling_step"] >= 5:
                host.call("/sdapi/v1/interrupt", {})
                return
            time.sleep(0.02)

    watching = threading.Thread(target=interrupt)
    watching.start()
    part = host.compare(prompt, ["CFG", "AG", "PG"], "0-1 [9]", steps=20)
    watching.join()
    assert 3 <= len(part.infotexts) - 2 < len(whole.infotexts) - 2
    for index, infotext in enumerate(part.infotexts[2:]):
        assert infotext == whole.infotexts[2 + index]
        assert np.array_equal(part.pictures[2 + index], whole.pictures[2 + index])
    assert [one.shape for one in part.pictures[:2]] == [one.shape for one in whole.pictures[:2]]


def test_nothing_stays_for_the_next_picture(host: Host, prompt: str) -> None:
    before = host.txt2img(prompt)
    host.compare(prompt, ["AG", "PG"], "0")
    after = host.txt2img(prompt)
    assert np.array_equal(before.picture, after.picture) and before.infotexts == after.infotexts
