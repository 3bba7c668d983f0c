"""A checkpoint that the loaded one started from, for tests of the base checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tests.hosts.a1111.guided import OMEGA, plain
from tests.hosts.a1111.stand_in import Model, checkpoint

ON = {"enabled": True, "weak_ratio": OMEGA, "base_checkpoint": "base.safetensors"}
OPTIONS: dict[str, Any] = {"prompts": ["a dog", "a cat"], "pictures": 2}


def parts(model: Model) -> dict[str, nn.Module]:
    return {
        "model.diffusion_model.": model.model.diffusion_model,
        "cond_stage_model.": model.cond_stage_model,
    }


def parameters(model: Model) -> dict[str, Tensor]:
    return {
        prefix + name: value
        for prefix, part in parts(model).items()
        for name, value in part.named_parameters()
    }


def listed(path: Path) -> None:
    """Have the host know the checkpoints in a folder."""
    infos = [checkpoint(str(file)) for file in sorted(path.glob("*.safetensors"))]
    sys.modules["modules.sd_models"].checkpoints_list = {info.title: info for info in infos}


def between(model: Model, base: Mapping[str, Tensor], omega: float) -> list[Tensor]:
    """What rows with the null prompt are with interpolated weights."""
    own = {name: value.clone() for name, value in parameters(model).items()}
    for name, value in parameters(model).items():
        value.copy_(base[name] + omega * (own[name] - base[name]))
    found = plain(model, **(OPTIONS | {"negative": ""}))
    for name, value in parameters(model).items():
        value.copy_(own[name])
    return found
