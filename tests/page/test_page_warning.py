"""The warning on the page: safe for what strangers write into it, and silent where there is no page."""

from __future__ import annotations

import sys
import types
import warnings

import pytest

from lib_pg.page.page_warning import warn_on_page


def test_names_are_no_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(Warning=shown.append))
    warn_on_page("network '<img src=x onerror=alert(1)>' is not active")
    assert shown == ["network '&lt;img src=x onerror=alert(1)&gt;' is not active"]


def test_without_a_page_there_is_no_second_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(Warning=warnings.warn))
    with warnings.catch_warnings(record=True) as repeated:
        warnings.simplefilter("always")
        warn_on_page("nothing happens")
    assert repeated == []
