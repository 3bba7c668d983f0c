"""Which WebUI this is, told by what it can do: an unknown one gets a message and nothing half-working."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from lib_pg.hosts.webui.sampling_pass import WebuiPass


@dataclass(frozen=True)
class WebuiHost:
    """The WebUI that loads the extension.

    Attributes:
        name: what its users call it.
        version: as it says itself; empty where it does not.
        passes: the kind of pass it needs.
    """

    name: str
    version: str
    passes: type[WebuiPass]

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


class UnsupportedHost(RuntimeError):
    """A host the extension cannot run in; the message says why and what to do."""


def find_host() -> WebuiHost:
    """Return the WebUI that loads the extension.

    Raises:
        UnsupportedHost: it lacks what is needed, so the extension must stay switched off.
    """
    from modules import scripts

    if not hasattr(scripts.Script, "process_before_every_sampling"):
        raise UnsupportedHost(
            "this WebUI is too old: AUTOMATIC1111 1.10 or later or a Forge of 2024 or later is needed. "
            "Update it; the extension stays switched off"
        )
    if find_spec("modules_forge") is None:
        from lib_pg.hosts.a1111.sampling_pass import A1111Pass

        return WebuiHost("AUTOMATIC1111", _webui_version(), A1111Pass)
    name = _forge_name()
    if name is None:
        raise UnsupportedHost(
            "this relative of Forge is not known, its sampling is neither in `backend` nor in `ldm_patched`; "
            "the extension stays switched off. Please report it with the host's name and version"
        )
    from lib_pg.hosts.forge.sampling_pass import ForgePass

    return WebuiHost(name, _forge_version(), ForgePass)


def _forge_name() -> str | None:
    """Tell the relatives apart by their engines: only a name for the user, nothing else depends on it."""
    if _has("backend.sampling.sampling_function"):
        return "Forge"
    if not (_has("ldm_patched.modules.samplers") and _has("modules_forge.forge_sampler")):
        return None
    return "reForge" if _has("ldm_patched.modules.weight_adapter") else "Forge Classic"


def _has(module: str) -> bool:
    """Whether a module is there, without running it; its packages are the host's and loaded anyway."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _forge_version() -> str:
    from modules_forge import forge_version

    return str(getattr(forge_version, "version", ""))


def _webui_version() -> str:
    from modules import launch_utils

    tag: Any = getattr(launch_utils, "git_tag", None)
    return str(tag()) if callable(tag) else ""
