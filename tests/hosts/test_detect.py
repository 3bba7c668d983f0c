"""Host detection by capability."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec

import pytest

from lib_pg.hosts.a1111.sampling_pass import A1111Pass
from lib_pg.hosts.detect import UnsupportedHost, find_host
from lib_pg.hosts.forge.sampling_pass import ForgePass

FORGE = ("backend", "backend.sampling", "backend.sampling.sampling_function")
CLASSIC = (
    "ldm_patched",
    "ldm_patched.modules",
    "ldm_patched.modules.samplers",
    "modules_forge.forge_sampler",
)
REFORGE = (*CLASSIC, "ldm_patched.modules.weight_adapter")


class Old:
    pass


class New:
    def process_before_every_sampling(self) -> None:
        pass


def host(monkeypatch: pytest.MonkeyPatch, script: type, forge: tuple[str, ...] | None = None) -> None:
    """Have the modules of a host importable; `forge` names those that only its relatives have."""
    modules = _module(monkeypatch, "modules")
    modules.scripts = types.SimpleNamespace(Script=script)  # type: ignore[attr-defined]
    modules.launch_utils = types.SimpleNamespace(git_tag=lambda: "v1.10.1")  # type: ignore[attr-defined]
    if forge is not None:
        package = _module(monkeypatch, "modules_forge")
        package.forge_version = types.SimpleNamespace(version="2.0.1")  # type: ignore[attr-defined]
        for name in forge:
            _module(monkeypatch, name)


def _module(monkeypatch: pytest.MonkeyPatch, name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_a_host_that_can_do_what_is_needed_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, New)
    found = find_host()
    assert (str(found), found.passes) == ("AUTOMATIC1111 v1.10.1", A1111Pass)


@pytest.mark.parametrize(
    ("modules", "name"), [(FORGE, "Forge"), (REFORGE, "reForge"), (CLASSIC, "Forge Classic")]
)
def test_forge_and_its_relatives_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, modules: tuple[str, ...], name: str
) -> None:
    host(monkeypatch, New, modules)
    found = find_host()
    assert (str(found), found.passes) == (f"{name} 2.0.1", ForgePass)


def test_an_unknown_relative_and_an_old_host_get_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    host(monkeypatch, New, ())
    with pytest.raises(UnsupportedHost, match="not known"):
        find_host()
    host(monkeypatch, Old)
    with pytest.raises(UnsupportedHost, match=r"1\.10"):
        find_host()
