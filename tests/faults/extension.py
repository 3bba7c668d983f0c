"""Our script as a host has loaded it, and what the host's modules offer it."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "personalization_guidance.py"


class HostScript:
    """What a host's scripts derive from, with the methods that ours calls or is told apart by."""

    def process_before_every_sampling(self, p: Any, *args: Any, **given: Any) -> None: ...


class Extension:
    """The script of one tab; `load` is what the host does at its start, and again at a reload of its page.

    Attributes:
        on_cfg_denoiser: the callback that it has registered.
    """

    def __init__(self) -> None:
        self.script: Any = None
        self.on_cfg_denoiser: Callable[[Any], None] = lambda params: None
        self._module: Any = None

    def load(self) -> None:
        """Run the script's file; the host's modules must be importable."""
        found: list[Callable[[Any], None]] = []
        package = sys.modules["modules"]
        package.script_callbacks = types.SimpleNamespace(  # type: ignore[attr-defined]
            on_cfg_denoiser=found.append,
            on_ui_settings=lambda callback: None,
            on_before_ui=lambda callback: None,
        )
        spec = importlib.util.spec_from_file_location("personalization_guidance", SCRIPT)
        assert spec is not None and spec.loader is not None
        self._module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)
        self.script = self._module.Script()
        self.script.show(False)
        (self.on_cfg_denoiser,) = found

    def use(self, shared: Any) -> None:
        """Have it use what a host has now; it is loaded once, as that takes longer than many generations."""
        if self._module is None:
            self.load()
        self._module.shared = shared
        self.script.show(False)  # caches of its own, as at a start


def host_modules(is_forge: bool, relative: str) -> dict[str, Any]:
    """Return what the stand-ins leave out, because the adapters themselves do not need it."""
    names = ["gradio"]
    if is_forge:
        names += ["modules_forge", "modules_forge.forge_version"]
    if relative in ("reForge", "Forge Classic"):
        names += ["ldm_patched.modules.samplers"]
    made: dict[str, Any] = {name: sys.modules.get(name) or types.ModuleType(name) for name in names}
    for name, module in made.items():
        module.__spec__ = ModuleSpec(name, None)
    made["gradio"] = types.ModuleType("gradio")
    made["gradio"].Warning = lambda message: None
    if is_forge:
        made["modules_forge"].forge_version = made["modules_forge.forge_version"]
    return made


@contextmanager
def added(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Have modules importable for the block."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@contextmanager
def own_copy() -> Iterator[None]:
    """Keep what the block loads of us apart from what is loaded already, whose classes others hold."""

    def ours() -> dict[str, types.ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lib_pg"}

    kept = ours()
    try:
        yield
    finally:
        for name in ours():
            del sys.modules[name]
        sys.modules.update(kept)
