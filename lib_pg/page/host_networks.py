"""The networks that the host knows, read from its own LoRA extension where it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pg.hosts.webui.lora_extension import lora_module


def known_networks() -> list[str]:
    """Return the names of all networks on disk that a list with commas can name, sorted."""
    return sorted((name for name in _available() if "," not in name), key=str.casefold)


def refresh_networks() -> None:
    """Make the host look at its folders again."""
    reread = getattr(lora_module(), "list_available_networks", None)
    if callable(reread):
        reread()


def network_metadata(name: str) -> Mapping[str, str]:
    """Return the text pairs in the header of a network's file; none where the host does not know it."""
    metadata = getattr(_available().get(name), "metadata", None)
    if not isinstance(metadata, Mapping):
        return {}
    return {key: value for key, value in metadata.items() if isinstance(key, str) and isinstance(value, str)}


def _available() -> Mapping[str, Any]:
    available = getattr(lora_module(), "available_networks", None)
    return available if isinstance(available, Mapping) else {}
