"""The Lora extension that all WebUIs of this family bring along: what it has active."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any


def lora_module() -> Any:
    """Return the extension's module, or None where it is switched off; importing it would run it."""
    return sys.modules.get("networks")


def loaded_networks() -> Sequence[Any]:
    """Return the extension's own objects of the active networks, in the order of the prompt."""
    module = lora_module()
    return module.loaded_networks if module is not None else ()


def is_forge() -> bool:
    """Say whether the host is Forge or one of its relatives, which load none of a prompt's networks where
    one of them is missing."""
    return "modules_forge" in sys.modules


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
