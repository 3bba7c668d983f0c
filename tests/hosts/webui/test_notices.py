"""What the user of a WebUI is told: once each, with the pass, and in a grid over all cells."""

from __future__ import annotations

from copy import copy
from types import SimpleNamespace
from typing import Any

import pytest

from lib_pg.hosts.webui.notices import Notices, collecting


class Processing:
    """What the host calls `p`, as far as it is about comments."""

    def __init__(self, enable_hr: bool = False) -> None:
        self.comments: dict[str, int] = {}
        self.enable_hr = enable_hr
        self.is_hr_pass = False

    def comment(self, text: str) -> None:
        self.comments[text] = 1


def told(p: Processing) -> list[str]:
    return [text.removeprefix("Personalization Guidance: ") for text in p.comments]


def test_a_generation_of_one_pass_names_none() -> None:
    p, on_page = Processing(), list[str]()
    notices = Notices(p, on_page.append)
    notices.warn("no network")
    notices.warn("no network")
    assert told(p) == ["no network"]
    assert on_page == ["Personalization Guidance: no network"]


def test_passes_are_named_and_the_page_is_told_once() -> None:
    p, on_page = Processing(enable_hr=True), list[str]()
    notices = Notices(p, on_page.append)
    notices.warn("settings are wrong", whole=True)
    notices.warn("no network")
    p.is_hr_pass = True
    notices.warn("no network")
    notices.warn("CFG scale 1")
    assert told(p) == [
        "settings are wrong",
        "first pass: no network",
        "hires pass: no network",
        "hires pass: CFG scale 1",
    ]
    assert [text.rpartition(": ")[2] for text in on_page] == [
        "settings are wrong",
        "no network",
        "CFG scale 1",
    ]


def test_of_a_second_model_only_what_is_new_is_told() -> None:
    p, on_page = Processing(), list[str]()
    notices = Notices(p, on_page.append)
    notices.warn("no network")
    notices.warn("no network", of="refiner")
    notices.warn("no text encoder", of="refiner")
    assert told(p) == ["no network", "refiner: no text encoder"]


def grid(p: Processing, cells: dict[str, list[str]], on_page: list[str], fault: bool = False) -> Any:
    """Draw as the hosts do: from copies, into a copy of the first cell's result."""
    result: Any = None

    def draw(p: Processing, fault: bool) -> Any:
        nonlocal result
        for cell, messages in cells.items():
            pc = copy(p)
            notices = Notices(pc, on_page.append, cell)
            for message in messages:
                notices.warn(message)
            processed = SimpleNamespace(
                comments="".join(f"{text}\n" for text in pc.comments), extra_generation_params={"Script": "x"}
            )
            notices.answer(processed)
            result = result or copy(processed)
        if fault:
            raise RuntimeError("broken")
        return result

    return collecting(draw)(p, fault=fault)


def test_a_grid_tells_each_cause_once_and_has_those_of_all_cells() -> None:
    p, on_page = Processing(), list[str]()
    p.comment("host: a comment")
    cells = {"[PG] Mode PG": ["no network"], "[PG] Mode AG": ["no network", "AG with AND"]}
    expected = ["first at [PG] Mode PG: no network", "first at [PG] Mode AG: AG with AND"]
    result = grid(p, cells, on_page)
    assert result.comments.splitlines() == [
        "host: a comment",
        *(f"Personalization Guidance: {text}" for text in expected),
    ]
    assert result.extra_generation_params == {"Script": "x", "Personalization Guidance": expected}
    assert len(on_page) == 2
    later = Notices(p, on_page.append)
    later.warn("no network")
    assert len(on_page) == 3, "the next generation is told anew"


def test_a_grid_without_notices_is_left_as_it_is() -> None:
    result = grid(Processing(), {"": [], "[PG] Mode AG": []}, [])
    assert result.comments == "" and result.extra_generation_params == {"Script": "x"}


def test_a_grid_that_fails_leaves_nothing() -> None:
    p = Processing()
    with pytest.raises(RuntimeError, match="broken"):
        grid(p, {"": ["no network"]}, [], fault=True)
    assert vars(p).keys() == {"comments", "enable_hr", "is_hr_pass"}
