"""What a WebUI knows of the networks on its disk, and what their files' headers say of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from lib_pg.formats import NetworkError
from lib_pg.formats.family import UNKNOWN
from lib_pg.formats.outline import family_of_checkpoint, outline_network
from lib_pg.hosts.webui.checkpoints import current_checkpoint
from lib_pg.hosts.webui.lora_extension import is_forge, lora_module

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class KnownNetwork:
    """A network of the host's list.

    Attributes:
        metadata: the text pairs in its header.
        family: what it seems to be for, such as 'SDXL'; empty where that cannot be told.
        kinds: what its layers are, as users call them; empty where the header cannot be read.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    kinds: frozenset[str] = frozenset()


class NetworkFiles:
    """The host's list. Only its files are opened, and each header is read once, until its file changes."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, str], tuple[int, Any]] = {}

    def find(self, name: str) -> KnownNetwork | None:
        """Return the network that the host takes for `name`; None where it would load nothing."""
        on_disk = _on_disk(name)
        if on_disk is None:
            return None
        path = Path(str(getattr(on_disk, "filename", "")))
        return replace(self.of_file(path), metadata=metadata_on_disk(on_disk))

    def of_file(self, path: Path) -> KnownNetwork:
        """Return what the header of a network's file says; nothing where it cannot be read."""
        return self._read(path, "network", lambda: _outline(path), KnownNetwork())

    def family_of_checkpoint(self) -> str:
        """Return the family of the checkpoint that makes the next picture; empty where it cannot be told."""
        path = current_checkpoint()
        return "" if path is None else self._read(path, "checkpoint", lambda: _family(path), "")

    def _read(self, path: Path, what: str, read: Callable[[], _Read], unknown: _Read) -> _Read:
        try:
            key, changed = (path, what), path.stat().st_mtime_ns
            if key not in self._known or self._known[key][0] != changed:
                self._known[key] = changed, read()
        except (OSError, NetworkError):  # the host says what is wrong with a file when it loads it
            return unknown
        found: _Read = self._known[key][1]
        return found


def available_networks() -> Mapping[str, Any]:
    """Return the host's own objects of the networks on its disk, by the names of their files."""
    return _mapping("available_networks")


def metadata_on_disk(on_disk: Any) -> dict[str, str]:
    """Return the text pairs in the header of a network's file."""
    metadata = getattr(on_disk, "metadata", None)
    pairs = metadata.items() if isinstance(metadata, Mapping) else ()
    return {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}


def similar_network(name: str) -> str:
    """Return a name of the host's that differs from `name` in case alone; empty where there is none."""
    names = [*available_networks(), *_mapping("available_network_aliases")]
    return next((known for known in names if known.casefold() == name.casefold()), "")


def kinds_not_loaded() -> frozenset[str]:
    """Return the kinds of networks that the host itself leaves out, as users call them."""
    if not is_forge():
        return frozenset()
    if "ldm_patched.modules.weight_adapter" in sys.modules:  # reForge
        return frozenset({"(IA)3"})
    return frozenset({"OFT", "BOFT", "(IA)3"})


def _on_disk(name: str) -> Any:
    """Look a name up as the host does: names of files and what trainers called them, in the very case."""
    by_file, by_alias = available_networks(), _mapping("available_network_aliases")
    if name.lower() in _mapping("forbidden_network_aliases"):  # several files have it
        return by_file.get(name)
    return by_alias.get(name, by_file.get(name))


def _mapping(attribute: str) -> Mapping[str, Any]:
    found = getattr(lora_module(), attribute, None)
    return found if isinstance(found, Mapping) else {}


def _outline(path: Path) -> KnownNetwork:
    outline = outline_network(path)
    return KnownNetwork(outline.metadata, "" if outline.family == UNKNOWN else outline.family, outline.kinds)


def _family(path: Path) -> str:
    family = family_of_checkpoint(path)
    return "" if family == UNKNOWN else family
