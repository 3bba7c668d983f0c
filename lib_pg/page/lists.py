"""What the page's lists offer: names of the host's files, and how to have them looked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lib_pg.hosts.webui.checkpoints import listed_checkpoints, refresh_checkpoints
from lib_pg.page.host_networks import known_networks, refresh_networks


@dataclass(frozen=True)
class Lists:
    """Names to choose from; the defaults are a WebUI's.

    Attributes:
        networks, checkpoints: return them as they are now.
        refresh_networks, refresh_checkpoints: look at the folders again.
    """

    networks: Callable[[], list[str]] = known_networks
    checkpoints: Callable[[], list[str]] = listed_checkpoints
    refresh_networks: Callable[[], None] = refresh_networks
    refresh_checkpoints: Callable[[], None] = refresh_checkpoints
