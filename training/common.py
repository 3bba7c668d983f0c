"""What the training scripts share: seeding, pictures as tensors, an averaged copy, and resumable state."""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training.world import Scene

BUNDLED = Path("lib_pg/cli/bundled")


def base_parser(description: str, out: str, steps: int) -> argparse.ArgumentParser:
    """The options every training script has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=0, help="seed of the data, the weights and the noise")
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps")
    parser.add_argument("--out", type=Path, default=Path(out), help="output folder")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    return parser


def start(seed: int, threads: int) -> None:
    """Seed every generator and set the thread count."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)


def draw_all(scenes: list[Scene]) -> torch.Tensor:
    """Pictures of scenes: (n, 3, 64, 64) uint8."""
    pictures = np.stack([scene.draw() for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 pictures to float in [-1, 1]."""
    return pictures.float().div(127.5).sub(1)


def cosine_rate(step: int, steps: int, warmup: int) -> float:
    """Learning rate factor in (0, 1]: linear warm-up, then a cosine down to one hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Average:
    """An exponential moving average of a module's weights, young at first so it warms up fast."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's weights after optimiser step `step` (from 0)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(
            list(self.module.parameters()), [p.detach() for p in module.parameters()], 1 - decay
        )


def save_state(path: Path, **parts: Any) -> None:
    """Write training state so that an interrupted write leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(parts, partial)
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """The state saved by save_state, or None when there is none yet."""
    return torch.load(path, weights_only=True, map_location="cpu") if path.exists() else None
