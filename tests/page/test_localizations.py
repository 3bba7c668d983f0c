"""Translations: every language has every string of ours that the page shows, and none that is no more.

The hosts look up whole texts of their page, wherever these stand. So what other extensions and the hosts
show as well is left to the hosts' own translations.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lib_pg import TITLE
from lib_pg.page import accordion, compare, sentences
from lib_pg.page.forecast import forecast
from lib_pg.page.presets import PresetStore
from lib_pg.page.settings_page import register_options
from lib_pg.page.situation import Situation
from lib_pg.settings import Settings

FOLDER = Path(__file__).resolve().parent.parent.parent / "localizations"
LANGUAGES = ("de_DE", "es_ES", "fr_FR", "ja_JP", "ko_KR", "pt_BR", "ru_RU", "zh_CN", "zh_TW")
# Too general to be ours alone, and a name.
LEFT_TO_THE_HOST = {
    *("Enabled", "Mode", "Schedule", "Start", "End", "Networks", "Hires", "Methods", "Preset"),
    *("Save", "Save as", "Delete", "Refresh", TITLE),
}


class Option:
    """The host's class of an option, as far as it has texts: it shows an `info` in parentheses."""

    def __init__(self, default: Any, label: str, component: Any, arguments: Any, section: Any) -> None:
        self.texts = {label}

    def info(self, text: str) -> Option:
        self.texts.add(f"({text})")
        return self

    def needs_reload_ui(self) -> Option:
        return self


def on_settings_page() -> set[str]:
    options: list[Option] = []
    host: Any = ModuleType("modules")
    opts = SimpleNamespace(add_option=lambda key, option: options.append(option))
    host.shared = SimpleNamespace(OptionInfo=Option, opts=opts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "modules", host)
        register_options()
    return set().union(*(option.texts for option in options))


def on_page(presets: PresetStore) -> set[str]:
    """Return labels, infos and buttons; choices are values that images and the API have, too."""
    gr = pytest.importorskip("gradio")
    all_shown = {"schedule": "Linear", "hires": "Own"}
    with gr.Blocks() as blocks:
        accordion.build("txt2img", presets, all_shown)
        accordion.build("img2img", presets, hires=False)
        compare.build("txt2img")
    parts = [part for part in blocks.blocks.values() if getattr(part, "visible", True)]
    buttons = {part.value for part in parts if isinstance(part, gr.Button)}
    return buttons | {getattr(part, name, None) or "" for part in parts for name in ("label", "info")} - {""}


def whole_sentences() -> Iterator[str]:
    """Yield the sentences of the line that are the same whatever the prompt says."""
    yield accordion._NOTHING_YET
    yield from (text for name, text in vars(sentences).items() if name.isupper() and isinstance(text, str))
    for node in ast.walk(ast.parse(inspect.getsource(sentences))):
        value = node.value if isinstance(node, ast.Return) else None
        for part in value.elts if isinstance(value, ast.List) else [value]:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value
    yield from forecast(Settings(enabled=True).to_list(), Situation(cfg_scale=7, steps=20))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    shown = (
        on_page(PresetStore(tmp_path_factory.mktemp("presets"))) | on_settings_page() | set(whole_sentences())
    )
    assert shown >= LEFT_TO_THE_HOST, "one of these is shown no more"
    return shown - LEFT_TO_THE_HOST


def read(language: str) -> dict[str, str]:
    pairs = json.loads((FOLDER / f"{language}.json").read_text("utf-8"), object_pairs_hook=list)
    assert len(dict(pairs)) == len(pairs), "a string stands there twice"
    return dict(pairs)


def test_the_languages() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name}.json" for name in LANGUAGES]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_string_is_missing_or_stale(language: str, ours: set[str]) -> None:
    found = set(read(language))
    assert (ours - found, found - ours) == (set(), set())


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_texts_that_keep_what_is_to_be_typed(language: str) -> None:
    for text, translation in read(language).items():
        assert translation == translation.strip() not in ("", text)
        assert not re.search(r"<(?!lora:name:1>)|&\w+;", translation), translation
        for typed in ("<lora:name:1>", "0, 0.5, 1", "0-1 (+0.25)", "0-1 [5]"):
            assert (typed in translation) == (typed in text), translation
