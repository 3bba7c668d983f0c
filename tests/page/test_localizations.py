"""Translations: every language has every string of ours, and none that is no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib_pg.page import accordion, sentences
from lib_pg.settings import CONTROLS

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "localizations").glob("*.json"))
# Labels that other extensions and the host itself have: their translation is the host's matter.
GENERAL = {"Enabled", "Mode", "Schedule", "Start", "End", "Networks", "Hires"}
LABELS = {control.label for control in CONTROLS.values()} - GENERAL
# What is said of networks stands with the list that names them.
HELP = {control.help for name, control in CONTROLS.items() if name != "networks"}
LINES = {value for name, value in vars(sentences).items() if name.isupper() and isinstance(value, str)}
OURS = LABELS | HELP | LINES | {accordion._NOTHING_YET}


def test_the_languages() -> None:
    names = ["de_DE", "es_ES", "fr_FR", "ja_JP", "ko_KR", "pt_BR", "ru_RU", "zh_CN", "zh_TW"]
    assert [path.stem for path in FILES] == names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_string_is_missing_or_stale(path: Path) -> None:
    found = json.loads(path.read_text("utf-8"))
    assert set(found) >= OURS
    code = "".join(each.read_text("utf-8") for each in (ROOT / "lib_pg" / "page").glob("*.py"))
    joined = code.replace('"\n        "', "").replace('"\n    "', "")
    for text in set(found) - OURS:
        assert text in joined, text
    assert all(value.strip() and value != key for key, value in found.items())
    assert all(("<lora:name:1>" in value) == ("<lora:name:1>" in key) for key, value in found.items())
