"""The checkpoints that a WebUI lists: the only files that a base checkpoint can be."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Listed:
    """A checkpoint of the host's list.

    Attributes:
        name: what the user calls it.
        path: its file.
        changed: when that was last written, in nanoseconds.
    """

    name: str
    path: Path
    changed: int


def find_checkpoint(title: str) -> Listed | None:
    """Return the checkpoint of the host's list that is called `title`; None where there is none on the disk.

    No path of the user's is ever opened.
    """
    for info in _infos():
        if title in (info.name, info.title, info.name_for_extra, getattr(info, "short_title", None)):
            path = Path(info.filename)
            if os.path.isfile(path):  # the list may be old
                return Listed(str(info.name_for_extra), path, os.stat(path).st_mtime_ns)
    return None


def listed_checkpoints() -> list[str]:
    """Return the names of the host's checkpoints, sorted."""
    return sorted((str(info.name) for info in _infos()), key=str.casefold)


def current_checkpoint() -> Path | None:
    """Return the file of the checkpoint that makes the next picture; None where that cannot be told."""
    data = getattr(_module(), "model_data", None)
    chosen = getattr(data, "forge_loading_parameters", None) or {}  # Forge loads it with the next picture
    info = chosen.get("checkpoint_info") or getattr(
        getattr(data, "sd_model", None), "sd_checkpoint_info", None
    )
    return None if info is None else Path(info.filename)


def loaded_models() -> list[Any]:
    """Return the models that the host keeps in memory, where it may keep several."""
    return list(getattr(getattr(_module(), "model_data", None), "loaded_sd_models", ()))


def refresh_checkpoints() -> None:
    """Make the host look at its folders again."""
    if (module := _module()) is not None:
        module.list_models()


def _infos() -> list[Any]:
    return list(getattr(_module(), "checkpoints_list", {}).values())


def _module() -> Any:
    return sys.modules.get("modules.sd_models")
