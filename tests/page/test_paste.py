"""Parameters of an image put the controls back; those of others switch the extension off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.infotext import to_infotext
from lib_pg.page.components import Components
from lib_pg.page.paste import Complaint, Restore, infotext_fields, paste_field_names
from lib_pg.settings import CONTROLS, Settings
from tests.settings_strategies import valid_settings

PLAIN = {"Prompt": "a cat", "Steps": "20", "Hires resize-1": 0, "Refiner switch by sampling steps": False}


@pytest.fixture(scope="module", autouse=True)
def no_page() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gradio", SimpleNamespace(Warning=lambda message: None))
        yield


def components(tab: str = "txt2img") -> Components:
    controls = tuple(SimpleNamespace(elem_id=name) for name in CONTROLS)
    return Components(tab, controls, None, SimpleNamespace(elem_id="pasted"))


def pasted(params: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all controls."""
    values = {component.elem_id: read(params) for component, read in infotext_fields(components())}
    del values["pasted"]
    return values


@given(valid_settings(st.just(True)))
def test_values_come_back(settings: Settings) -> None:
    expected = settings.in_use().to_dict()  # what made nothing is not there
    assert pasted({**PLAIN, **to_infotext(settings)}) == expected


def test_a_plain_image_switches_off_and_leaves_the_rest() -> None:
    values = pasted(PLAIN)
    assert values.pop("enabled") is False
    assert set(values.values()) == {None}


@pytest.mark.parametrize(
    "hostile",
    [
        {"PG weak ratio": "7"},
        {"PG weak ratio": "nan"},
        {"PG weak ratio": ""},
        {"PG mode": "<script>"},
        {"PG weak ratio": 0.5},
        {"PG start": "0.9", "PG end": "0.1"},
        {"PG networks": "a" * 5000},
        {"PG networks": "a\nb"},
    ],
)
def test_hostile_values_switch_off(hostile: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    values = pasted({**PLAIN, "PG mode": "PG", "PG weak ratio": "0.5", **hostile})
    assert values.pop("enabled") is False
    assert set(values.values()) == {None}
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "so the extension is off" in said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"PG mode": "XX"}, ["mode", "&#x27;XX&#x27;", "&#x27;PG&#x27;, &#x27;AG&#x27;"]),
        ({"PG weak ratio": "9"}, ["weak_ratio", "9", "from 0 to 1"]),
        ({"PG mode": "<script>"}, ["&lt;script&gt;"]),
    ],
)
def test_values_that_cannot_be_used_are_named_on_the_page(
    value: dict[str, str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = Complaint()({**PLAIN, "PG mode": "PG", **value})
    assert all(word in said for word in ["cannot be used, so the extension is off", *words])
    assert "<script>" not in said
    assert capsys.readouterr().out.startswith("[Personalization Guidance] The pasted parameters cannot")


@pytest.mark.parametrize("params", [PLAIN, {**PLAIN, "PG mode": "AG", "PG weak ratio": "0.5"}])
def test_parameters_of_other_and_good_images_are_no_fault(
    params: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert Complaint()(params) == ""  # and takes away what was said of the last ones
    assert capsys.readouterr().out == ""


@given(st.dictionaries(st.sampled_from(["PG mode", "PG weak ratio", "PG start", "PG hires"]), st.text()))
def test_no_text_raises(params: dict[str, str]) -> None:
    pasted(params)


def test_fields_of_both_tabs_are_equal_so_that_the_host_can_send_them() -> None:
    names = paste_field_names()
    sent = [[name for _, name in infotext_fields(components(tab))] for tab in ("txt2img", "img2img")]
    assert sent[0] == sent[1] == names
    assert Restore("mode") != "mode"
