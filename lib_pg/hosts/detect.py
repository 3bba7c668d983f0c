"""Which WebUI this is, told by what it can do: an unknown one gets a message and nothing half-working."""

from __future__ import annotations

from importlib.util import find_spec


def why_unsupported() -> str:
    """Return one sentence on why the extension cannot run in the host that loads it; empty where it can."""
    if find_spec("modules_forge") is not None:
        return "Forge and its relatives are not supported yet; the extension stays switched off"
    from modules import scripts

    if not hasattr(scripts.Script, "process_before_every_sampling"):
        return (
            "this WebUI is too old, AUTOMATIC1111 1.10 or later is needed; the extension stays switched off"
        )
    return ""
