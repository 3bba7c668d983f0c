"""The Lora extension that all WebUIs of this family bring along: what it has active."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def lora_module() -> Any:
    """Return the extension's module, or None where it is switched off; importing it would run it."""
    return sys.modules.get("networks")


def loaded_networks() -> Sequence[Any]:
    """Return the extension's own objects of the active networks, in the order of the prompt."""
    module = lora_module()
    return module.loaded_networks if module is not None else ()


def missing_notes(wanted: Iterable[str]) -> list[str]:
    """Say which networks the prompt asks for are not in the picture, and because of which.

    The hosts look names up letter for letter; Forge then loads none of the others either.

    Args:
        wanted: the names in the prompt.
    """
    active = {name_of(loaded) for loaded in loaded_networks()}
    gone = [name for name in wanted if name not in active]
    unknown = [name for name in gone if not _is_listed(name)]
    others = [name for name in gone if name not in unknown]
    if unknown:
        left_out = f" and so has left out {', '.join(others)} as well" if others else ""
        names = ", ".join(map(repr, unknown))
        return [f"the host knows no network {names}{left_out}; correct the name or refresh the host's list"]
    if others:
        return [f"the host has not loaded {', '.join(others)}, so it is in no branch; its console says why"]
    return []


def _is_listed(name: str) -> bool:
    """Whether the extension would find a network; true where it does not tell what it has."""
    module = lora_module()
    if name.lower() in getattr(module, "forbidden_network_aliases", ()):
        return name in getattr(module, "available_networks", ())
    aliases = getattr(module, "available_network_aliases", None)
    return aliases is None or name in aliases


def name_of(loaded: Any) -> str:
    """Return what the prompt calls a network."""
    return str(getattr(loaded, "mentioned_name", None) or loaded.name)


def metadata_of(loaded: Any) -> dict[str, str]:
    """Return the text pairs in the header of a network's file."""
    metadata = getattr(loaded.network_on_disk, "metadata", None) or {}
    return {str(key): value for key, value in metadata.items() if isinstance(value, str)}


def notes_on(name: str, skipped: Mapping[str, int]) -> list[str]:
    """Say which layers of a network cannot be weakened, and what that means for the picture.

    Args:
        skipped: how many layers, by what they are and why they cannot.
    """
    return [
        f"{name}: {what} cannot be weakened ({count} layer{'s' if count > 1 else ''}). "
        f"Both branches are alike there, so the picture is not guided towards what {name} does in them"
        for what, count in skipped.items()
    ]
