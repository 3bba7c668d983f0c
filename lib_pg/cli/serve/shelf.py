"""The files that visitors choose from, by name: no path of theirs is ever opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.networks import names_of
from lib_pg.cli.paths import BUNDLED_LORA, BUNDLED_PIPELINE
from lib_pg.hosts.webui.network_files import KnownNetwork, NetworkFiles
from lib_pg.page.situation import HostFiles

BUNDLED_NAME = "bundled tiny model"
_MAX = 10_000


class Shelf:
    """Checkpoints and networks of two folders, as they were when it was last looked.

    Args:
        checkpoints, networks: the folders; without any, the bundled model and its network.
    """

    def __init__(self, checkpoints: Path | None, networks: Path | None) -> None:
        self._folders = checkpoints, networks
        self._headers = NetworkFiles()
        self.checkpoints: MappingProxyType[str, Path]
        self.networks: MappingProxyType[str, Path]
        self.look()

    def look(self) -> None:
        """Look into the folders again.

        Raises:
            UsageError: one of them is no folder, or holds too many files.
        """
        checkpoints, networks = self._folders
        found = list(_files(networks, "--networks", False)) if networks else []
        if checkpoints is None:
            self.checkpoints = MappingProxyType({BUNDLED_NAME: BUNDLED_PIPELINE})
            found.append(BUNDLED_LORA)
        else:
            self.checkpoints = _by_name(list(_files(checkpoints, "--checkpoints", True)))
        self.networks = _by_name(found)

    def network(self, name: str) -> Path | None:
        """Return the file of a network by the name of a prompt's tag, in any case."""
        folded = name.casefold()
        return next((path for known, path in self.networks.items() if known.casefold() == folded), None)

    def host_files(self) -> HostFiles:
        """Return what the page's line of what will happen asks for."""
        return HostFiles(find=self._known, has_checkpoint=self.checkpoints.__contains__)

    def _known(self, name: str) -> KnownNetwork | None:
        path = self.network(name)
        return None if path is None else self._headers.of_file(path)


def _by_name(paths: list[Path]) -> MappingProxyType[str, Path]:
    named: dict[str, Path] = {name: path for path, name in names_of(paths).items()}
    return MappingProxyType(dict(sorted(named.items(), key=lambda pair: pair[0].casefold())))


def _files(folder: Path, option: str, models: bool) -> Iterator[Path]:
    """Yield the safetensors files in a folder and all below it, and diffusers folders as one where wanted."""
    if not os.path.isdir(folder):
        raise UsageError(f"{option} {str(folder)!r} is no folder; give one that holds .safetensors files")
    count = 0

    def complain(error: OSError) -> Any:
        raise UsageError(f"{option}: {error.filename!r} cannot be read: {error.strerror}") from error

    for here, below, names in os.walk(folder, onerror=complain):
        if models and "model_index.json" in names:
            below.clear()  # its parts are no checkpoints themselves
            found = [Path(here)]
        else:
            below.sort()
            found = [Path(here, name) for name in sorted(names) if name.endswith(".safetensors")]
        count += len(found)
        if count > _MAX:
            raise UsageError(f"{option} {str(folder)!r} holds over {_MAX} files; give a smaller folder")
        yield from found
