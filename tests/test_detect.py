"""Host detection by capability."""

from __future__ import annotations

import sys
import types

import pytest

from lib_pg.hosts.detect import why_unsupported


def host(monkeypatch: pytest.MonkeyPatch, script: type, forge: bool = False) -> None:
    modules = types.ModuleType("modules")
    modules.scripts = types.SimpleNamespace(Script=script)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules", modules)
    if forge:
        package = types.ModuleType("modules_forge")
        package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, "modules_forge", package)


class Old:
    pass


class New:
    def process_before_every_sampling(self) -> None:
        pass


def test_a_host_that_can_do_what_is_needed_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, New)
    assert why_unsupported() == ""


def test_an_old_host_and_forge_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, Old)
    assert "1.10" in why_unsupported()
    host(monkeypatch, New, forge=True)
    assert "Forge" in why_unsupported()
