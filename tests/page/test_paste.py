"""Parameters of an image put the controls back; those of others switch the extension off."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.infotext import to_infotext
from lib_pg.page.components import Components
from lib_pg.page.paste import Restore, infotext_fields, paste_field_names
from lib_pg.settings import CONTROLS, Settings
from tests.settings_strategies import valid_settings

PLAIN = {"Prompt": "a cat", "Steps": "20", "Hires resize-1": 0, "Refiner switch by sampling steps": False}


def components(tab: str = "txt2img") -> Components:
    return Components(tab, tuple(SimpleNamespace(elem_id=name) for name in CONTROLS), None)


def pasted(params: dict[str, Any]) -> dict[str, Any]:
    return {component.elem_id: read(params) for component, read in infotext_fields(components())}


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
    assert capsys.readouterr().out.count("switched off") == 1


@given(st.dictionaries(st.sampled_from(["PG mode", "PG weak ratio", "PG start", "PG hires"]), st.text()))
def test_no_text_raises(params: dict[str, str]) -> None:
    pasted(params)


def test_fields_of_both_tabs_are_equal_so_that_the_host_can_send_them() -> None:
    names = paste_field_names()
    sent = [[name for _, name in infotext_fields(components(tab))] for tab in ("txt2img", "img2img")]
    assert sent[0] == sent[1] == names
    assert Restore("mode") != "mode"
