"""The networks that the host knows, read from its own LoRA extension where it is loaded."""

from __future__ import annotations

from lib_pg.hosts.webui.lora_extension import lora_module
from lib_pg.hosts.webui.network_files import available_networks


def known_networks() -> list[str]:
    """Return the names of all networks on disk that a list with commas can name, sorted."""
    return sorted((name for name in available_networks() if "," not in name), key=str.casefold)


def refresh_networks() -> None:
    """Make the host look at its folders again."""
    reread = getattr(lora_module(), "list_available_networks", None)
    if callable(reread):
        reread()
