"""Names to pick from come from the host; the text of the setting and the picked names say the same."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from lib_pg.hosts.webui.network_files import NetworkFiles
from lib_pg.page.components import debounced, elem_id
from lib_pg.page.host_networks import known_networks, refresh_networks
from lib_pg.page.network_picker import to_names, to_text
from lib_pg.settings import Settings


def host_with(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> None:
    module = ModuleType("networks")
    module.__dict__.update(attributes)
    monkeypatch.setitem(sys.modules, "networks", module)


@pytest.mark.parametrize("names", [[], ["dog"], ["my dog", "cat:1", "<b>"]])
def test_names_and_text(names: list[str]) -> None:
    assert to_names(to_text(names)) == names
    assert Settings(networks=to_text(names)).network_names == tuple(names)


@pytest.mark.parametrize("text", ["a\nb", "x" * 3000, None, 3])
def test_unusable_texts_have_no_names(text: Any) -> None:
    assert to_names(text) == []


def test_nothing_picked_is_the_empty_text() -> None:
    assert to_text(None) == to_text([" "]) == ""


def test_names_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    host_with(monkeypatch, available_networks={"style": None, "Dog": None, "a,b": None})
    assert known_networks() == ["Dog", "style"]  # a list with commas cannot name the third


def test_refresh_lets_the_host_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    host_with(monkeypatch, available_networks=names, list_available_networks=lambda: names.update(new=None))
    refresh_networks()
    assert known_networks() == ["new"]


@pytest.mark.parametrize("attributes", [{}, {"available_networks": 3, "list_available_networks": 3}])
def test_another_module_of_that_name(monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any]) -> None:
    host_with(monkeypatch, **attributes)
    refresh_networks()
    assert known_networks() == []


def test_a_host_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    refresh_networks()
    assert known_networks() == [] and NetworkFiles().find("dog") is None


def test_elem_ids_and_scripts_differ_by_tab() -> None:
    assert elem_id("txt2img", "mode") == "pg_txt2img_mode"
    assert debounced("a", 3) != debounced("b", 3)
