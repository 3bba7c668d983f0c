"""The script file as a host runs it: at the start, and again at every reload of its page."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lib_pg import __version__

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "personalization_guidance.py"


def _ours() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lib_pg"}


@pytest.fixture
def callbacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the callbacks that are registered; the host is AUTOMATIC1111."""
    registered: list[str] = []

    def registering(name: str) -> Any:
        return lambda callback: registered.append(name)

    names = ("on_cfg_denoiser", "on_ui_settings", "on_before_ui")
    modules: Any = ModuleType("modules")
    modules.script_callbacks = SimpleNamespace(**{name: registering(name) for name in names})
    modules.scripts = SimpleNamespace(
        Script=type("Script", (), {"process_before_every_sampling": None}), AlwaysVisible=object()
    )
    modules.shared = SimpleNamespace()
    modules.launch_utils = SimpleNamespace(git_tag=lambda: "v1.10.1")
    monkeypatch.setitem(sys.modules, "modules", modules)
    kept = _ours()
    yield registered
    for name in _ours():
        del sys.modules[name]
    sys.modules.update(kept)


def test_the_script_says_its_version_and_host_and_registers_its_callbacks(
    callbacks: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = runpy.run_path(str(SCRIPT))
    assert f"{__version__} running in AUTOMATIC1111 v1.10.1" in capsys.readouterr().out
    assert sorted(callbacks) == ["on_before_ui", "on_cfg_denoiser", "on_ui_settings"]
    assert found["Script"]().title() == "Personalization Guidance"


def test_a_reload_after_an_update_uses_the_new_code_alone(callbacks: list[str]) -> None:
    """What the last version left: rooms that are gone, a module where there is a package now."""
    left = ["lib_pg", "lib_pg.settings", "lib_pg.webui", "lib_pg.hosts", "lib_pg.hosts.webui"]
    for name in _ours():
        del sys.modules[name]
    stale = {name: ModuleType(name) for name in left}
    sys.modules.update(stale)
    runpy.run_path(str(SCRIPT))
    now = _ours()
    assert not set(map(id, stale.values())) & set(map(id, now.values()))
    assert "lib_pg.webui" not in now
    assert {Path(str(module.__file__)).is_relative_to(SCRIPT.parent.parent) for module in now.values()} == {
        True
    }


def test_every_reload_imports_anew_and_leaves_nothing_double(callbacks: list[str]) -> None:
    first = runpy.run_path(str(SCRIPT))
    second = runpy.run_path(str(SCRIPT))
    assert first["WebuiGuidance"] is not second["WebuiGuidance"]
    assert second["WebuiGuidance"] is _ours()["lib_pg.hosts.webui.generation"].WebuiGuidance  # type: ignore[attr-defined]


def test_an_api_dict_without_the_switch_is_refused_but_in_a_grid_s_cell(callbacks: list[str]) -> None:
    script = runpy.run_path(str(SCRIPT))
    read, error = script["_settings"], sys.modules["lib_pg.settings"].SettingsError  # type: ignore[attr-defined]
    with pytest.raises(error, match='add "enabled": true'):
        read(SimpleNamespace(), [{"weak_ratio": 0.5}])
    assert not read(SimpleNamespace(), [{}]).enabled
    assert read(SimpleNamespace(pg_overrides={"mode": "AG"}), [{"weak_ratio": 0.5}]).enabled
    assert not read(SimpleNamespace(pg_overrides={"mode": "CFG"}), [{"weak_ratio": 0.5}]).enabled
