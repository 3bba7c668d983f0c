"""Drawing for one visitor after the other, on the bundled model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from lib_pg.cli.main import main
from lib_pg.cli.paths import BUNDLED_LORA
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.cli.serve.turns import Cancelled, Turns
from lib_pg.cli.serve.wanted import Wanted, wanted
from tests.cli.serve.test_wanted import SERVER, values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("turns")


@pytest.fixture(scope="module")
def turns(folder: Path) -> Iterator[Turns]:
    yield Turns(folder / "out")


def asked(**changes: object) -> Wanted:
    fields = {"steps": 2, "batch": 1, "count": 1, "seed": 3, "sampler": "DPM++ 2M", **changes}
    return wanted(values(**fields), Shelf(None, None), SERVER)


def drawn(turns: Turns, job: Wanted) -> list[Path]:
    return [path for _, path in turns.draw([job], "me", lambda done, total: None, lambda said: None)]


def same(one: Path, other: Path) -> bool:
    return ImageChops.difference(Image.open(one), Image.open(other)).getbbox() is None


def test_pictures_are_those_of_generate(
    turns: Turns, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also after another sampler and another network strength have used the same model."""
    drawn(turns, asked(sampler="Euler", schedule_type="Karras", prompt="x <lora:sks_star:-1>"))
    ours = drawn(turns, asked(batch=2, count=2, weak_ratio=0.25))
    out = ["--out", str(folder / "generate"), "--lora", f"{BUNDLED_LORA}:0.8", "--weak-ratio", "0.25"]
    picture = ["--prompt", "a sks star", "--negative", "ugly", "--scale", "5", "--steps", "2", "--seed", "3"]
    assert main(["generate", *out, *picture, "--batch", "2", "--count", "2"]) == 0
    theirs = [Path(line) for line in capsys.readouterr().out.split()]
    assert len(ours) == len(theirs) == 4
    assert all(same(*pair) for pair in zip(ours, theirs, strict=True))
    assert not same(ours[0], ours[1])


def test_progress_counts_all_batches(turns: Turns) -> None:
    told: list[tuple[int, int]] = []
    list(
        turns.draw([asked(count=2)], "me", lambda done, total: told.append((done, total)), lambda said: None)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_requests_of_one_turn_are_made_in_order_and_counted_together(turns: Turns) -> None:
    told: list[tuple[int, int]] = []
    jobs = [asked(batch=2), asked(weak_ratio=0.1)]
    made = list(turns.draw(jobs, "me", lambda done, total: told.append((done, total)), lambda said: None))
    assert [place for place, _ in made] == [0, 0, 1]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert same(made[2][1], drawn(turns, jobs[1])[0])


def test_cancelling_ends_a_visitor_s_own_drawing_and_leaves_the_model_as_it_was(turns: Turns) -> None:
    (before,) = drawn(turns, asked())
    job = asked(steps=8)

    def progress(done: int, total: int) -> None:
        assert not turns.cancel("another")
        if done == 3:
            assert turns.cancel("me")

    reached: list[int] = []
    with pytest.raises(Cancelled):
        list(
            turns.draw(
                [job], "me", lambda *step: (reached.append(step[0]), progress(*step)), lambda said: None
            )
        )
    assert reached == [1, 2, 3]
    assert not turns.cancel("me")
    (after,) = drawn(turns, asked())
    assert same(before, after)


def test_a_visitor_who_leaves_makes_room(turns: Turns) -> None:
    first = turns.draw([asked(count=3)], "me", lambda done, total: None, lambda said: None)
    next(first)
    first.close()
    assert len(drawn(turns, asked())) == 1


def test_what_will_happen_is_said(turns: Turns) -> None:
    said: list[str] = []
    list(turns.draw([asked(weak_ratio=0.5)], "me", lambda done, total: None, said.append))
    assert said == ["PG: sks_star 0.8 -> 0.4 in the weak branch"]
