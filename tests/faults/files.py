"""Base checkpoints on the disk of a contract host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

NAMES = ("base", "other")


def bases(folder: Path, state: Callable[[], Mapping[str, Tensor]]) -> Path:
    """Write checkpoints that every parameter of the loaded one differs from; return their folder."""
    into = folder / "checkpoints"
    into.mkdir(exist_ok=True)
    for seed, name in enumerate(NAMES, 4):
        write_base(into / f"{name}.safetensors", state(), seed)
    return into


def write_base(path: Path, state: Mapping[str, Tensor], seed: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    moved = {}
    for name, value in state.items():
        moved[name] = value.detach() + 0.3 * torch.randn(value.shape, generator=noise)
    save_file(moved, path)


@contextmanager
def listed(folder: Path, info: Callable[[str], Any]) -> Iterator[None]:
    """Have the host list the checkpoints in a folder."""
    module: Any = sys.modules["modules.sd_models"]
    infos = [info(str(folder / f"{name}.safetensors")) for name in NAMES]
    module.checkpoints_list = {each.title: each for each in infos}
    yield
