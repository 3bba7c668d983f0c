"""Prompts are read as the host will read them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lib_pg.page.host_prompt import is_filled_in_later, negative_as_read, prompt_as_read

STYLES = {"dog": ("a photo of {prompt} <lora:dog:0.8>", "blurry"), "soft": ("soft # <lora:no:1>", "")}


def host(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Put a WebUI there, with styles, options and a network called `dog`."""

    def apply(index: int) -> Callable[[str, Sequence[str]], str]:
        def applied(prompt: str, names: Sequence[str]) -> str:
            for name in names:
                text = STYLES[name][index]
                joined = ", ".join(filter(None, (prompt.strip(), text)))
                prompt = text.replace("{prompt}", prompt) if "{prompt}" in text else joined
            return prompt

        return applied

    module, networks = ModuleType("modules"), ModuleType("networks")
    styles = SimpleNamespace(
        apply_styles_to_prompt=apply(0),
        apply_negative_styles_to_prompt=apply(1),
    )
    module.shared = SimpleNamespace(  # type: ignore[attr-defined]
        prompt_styles=styles, opts=SimpleNamespace(**options)
    )
    networks.available_networks = {"dog": object()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules", module)
    monkeypatch.setitem(sys.modules, "networks", networks)


def test_styles_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch)
    assert prompt_as_read("a cat", ["dog"]) == "a photo of a cat <lora:dog:0.8>"
    assert negative_as_read("dark", ["dog", "soft"]) == "dark, blurry"
    assert prompt_as_read("a cat", []) == "a cat"


def test_comments_hide_networks_where_the_host_takes_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, enable_prompt_comments=True)
    assert prompt_as_read("# <lora:dog:1>\na cat # <lora:dog:1>\n<lora:dog:0.5>", []) == (
        "\na cat \n<lora:dog:0.5>"
    )
    assert "<lora:no:1>" not in prompt_as_read("a cat", ["soft"])
    assert negative_as_read("# all of it", []).strip() == ""
    host(monkeypatch, enable_prompt_comments=False)
    assert prompt_as_read("# <lora:dog:1>", []) == "# <lora:dog:1>"


@pytest.mark.parametrize(
    ("added", "prompt", "read"),
    [
        ("dog", "a cat", "a cat<lora:dog:0.7>"),
        ("dog", "a cat <lora:dog:1>", "a cat <lora:dog:1>"),
        ("None", "a cat", "a cat"),
        ("missing", "a cat", "a cat"),
    ],
)
def test_the_network_of_the_hosts_settings_is_added(
    monkeypatch: pytest.MonkeyPatch, added: str, prompt: str, read: str
) -> None:
    host(monkeypatch, sd_lora=added, extra_networks_default_multiplier=0.7)
    assert prompt_as_read(prompt, []) == read


def test_a_page_without_a_webui_reads_what_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modules", None)
    monkeypatch.setitem(sys.modules, "networks", None)
    assert prompt_as_read("a cat # b", ["dog"]) == "a cat # b"


@pytest.mark.parametrize(
    ("prompt", "later"),
    [
        ("a __animal__", True),
        ("a {red|blue} cat", True),
        ("a {cat} __ or _ _", False),
        ("<lora:my__dog:1>", False),
        ("{" * 5000 + "__" * 5000, False),
    ],
)
def test_what_other_extensions_fill_in(prompt: str, later: bool) -> None:
    assert is_filled_in_later(prompt) is later
