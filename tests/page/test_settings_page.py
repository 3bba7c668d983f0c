"""Options that are missing or not usable have their defaults."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lib_pg.page.settings_page import Options, read_options, register_options


def read(monkeypatch: pytest.MonkeyPatch, **values: Any) -> Options:
    host = ModuleType("modules")
    host.shared = SimpleNamespace(opts=SimpleNamespace(**values))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules", host)
    return read_options()


def test_a_new_host_has_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch) == Options(0.7, "PG", "Warnings", True, 0, False)


def test_what_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    options = read(
        monkeypatch,
        pg_default_weak_ratio=0.25,
        pg_default_mode="AG",
        pg_console="Details",
        pg_write_infotext=False,
        pg_weak_memory=64,
        pg_fast_steps=True,
    )
    assert options == Options(0.25, "AG", "Details", False, 64, True)


@pytest.mark.parametrize("value", [None, 7.5e9, -1, "x", float("nan"), [], {}])
def test_unusable_ones_have_their_defaults(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    options = read(
        monkeypatch,
        pg_default_weak_ratio=value,
        pg_default_mode=value,
        pg_console=value,
        pg_write_infotext=value,
        pg_weak_memory=value,
        pg_fast_steps=value,
    )
    assert options == Options()


class Info:
    """Our stand-in for the host's OptionInfo."""

    def __init__(
        self, default: Any, label: str, component: Any, arguments: dict[str, Any], section: Any
    ) -> None:
        self.default, self.label, self.section = default, label, section

    def info(self, text: str) -> Info:
        return self

    def needs_reload_ui(self) -> Info:
        return self


def test_the_section_registers_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    added: dict[str, Info] = {}
    host, gradio = ModuleType("modules"), ModuleType("gradio")
    host.shared = SimpleNamespace(  # type: ignore[attr-defined]
        OptionInfo=Info, opts=SimpleNamespace(add_option=added.__setitem__)
    )
    gradio.__dict__.update(Slider=object, Radio=object, Checkbox=object)
    monkeypatch.setitem(sys.modules, "modules", host)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    register_options()
    assert {info.section[1] for info in added.values()} == {"Personalization Guidance"}
    assert read(monkeypatch, **{key: info.default for key, info in added.items()}) == Options()
    assert len(added) == 6
