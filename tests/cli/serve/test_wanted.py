"""A page's values as a job, and a picture's as values of the page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.main import main
from lib_pg.cli.paths import BUNDLED_LORA, BUNDLED_PIPELINE
from lib_pg.cli.serve.shelf import BUNDLED_NAME, Shelf
from lib_pg.cli.serve.wanted import FIELDS, values_of_picture, wanted
from lib_pg.settings import CONTROLS, DEFAULTS

PAGE: dict[str, Any] = {
    "checkpoint": BUNDLED_NAME, "prompt": "a sks star <lora:sks_star:0.8>", "negative": "ugly",
    "sampler": "Euler", "schedule_type": "", "steps": 4, "scale": 5.0, "width": 0, "height": 0,
    "batch": 2, "count": 3, "seed": 11,
}  # fmt: skip


SERVER = argparse.Namespace(config=None, device="cpu", dtype="float32")


def values(**changes: Any) -> list[Any]:
    given = {**PAGE, **DEFAULTS, "enabled": True, **changes}
    return [given[name] for name in (*FIELDS, *CONTROLS)]


def test_values_are_a_job() -> None:
    found = wanted(values(weak_ratio=0.25, schedule="Linear"), Shelf(None, None), SERVER)
    job = found.asked.job
    assert (job.prompt, job.negative, job.steps, job.scale) == ("a sks star", "ugly", 4, 5.0)
    assert (job.seed, job.batch, found.options.count, job.width, job.height) == (11, 2, 3, None, None)
    assert [(use.name, use.strength, use.path) for use in job.loras] == [("sks_star", 0.8, BUNDLED_LORA)]
    assert (job.settings.enabled, job.settings.mode, job.settings.weak_ratio) == (True, "PG", 0.25)
    assert job.settings.schedule == "Linear"
    assert found.options.checkpoint == BUNDLED_PIPELINE and found.options.base_checkpoint is None


def test_without_the_tick_it_is_plain_cfg() -> None:
    assert wanted(values(enabled=False), Shelf(None, None), SERVER).asked.job.settings.mode == "CFG"


def test_a_seed_of_minus_one_is_another_each_time() -> None:
    seeds = {wanted(values(seed=-1), Shelf(None, None), SERVER).asked.job.seed for _ in range(4)}
    assert len(seeds) == 4


def test_a_network_that_is_named_twice_is_used_twice() -> None:
    prompt = "a star <lora:sks_star:0.5><lora:sks_star:0.25>"
    found = wanted(values(prompt=prompt), Shelf(None, None), SERVER)
    assert [use.strength for use in found.asked.job.loras] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"checkpoint": "/etc/passwd"}, "checkpoint '/etc/passwd' is not in the list"),
        ({"base_checkpoint": "../x"}, "base checkpoint '../x' is not in the list"),
        ({"prompt": "<lora:../x:1>"}, "there is no network '../x'"),
        ({"steps": 10**6}, "steps is 1000000"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"steps": "4"}, "steps is '4'; it must be a whole number"),
        ({"count": 0}, "count is 0; it must lie between 1 and 100"),
        ({"batch": 65}, "batch size is 65"),
        ({"width": 10**9}, "width is 1000000000"),
        ({"seed": -5}, "seed is -5"),
        ({"sampler": "rm -rf"}, "rm -rf"),
        ({"weak_ratio": 2.0}, "weak_ratio: got 2.0"),
        ({"seed": float("inf")}, "seed is inf; it must be a whole number"),
        ({"scale": float("nan")}, "CFG scale is nan"),
        ({"mode": "XX"}, "mode: got"),
    ],
)
def test_what_a_page_does_not_offer_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        wanted(values(**changes), Shelf(None, None), SERVER)
    assert said.casefold() in str(caught.value).casefold()


def test_a_picture_sets_what_it_was_made_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--steps", "2", "--seed", "7", "--scale", "3.5", "--negative", "ugly", "--sampler", "Euler"]
    more = ["--prompt", "a star", "--lora", str(BUNDLED_LORA), "--weak-ratio", "0.3", "--out", str(tmp_path)]
    assert main(["generate", *asked, *more]) == 0
    found, notices = values_of_picture(capsys.readouterr().out.strip(), Shelf(None, None))
    assert notices == []
    expected = {
        "prompt": "a star <lora:sks_star:1.0>", "negative": "ugly", "steps": 2, "seed": 7, "scale": 3.5,
        "sampler": "Euler", "checkpoint": BUNDLED_NAME, "enabled": True, "mode": "PG", "weak_ratio": 0.3,
        "width": 64, "height": 64,
    }  # fmt: skip
    assert expected.items() <= found.items()


def test_a_file_without_parameters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(UsageError):
        values_of_picture(str(tmp_path / "x.png"), Shelf(None, None))
