"""The models of a pipeline that networks and fine-tunes change, and the fine-tune that they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lib_pg.deltas import Parameters
from lib_pg.deltas.merge import originals_of, parameters_of
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.difference import Model
from lib_pg.formats.live import unwrapped
from lib_pg.hosts.base_checkpoint import BaseCheckpoint, compare

_CALLED = {"unet": "U-Net", "te1": "text encoder", "te2": "second text encoder"}
_log = logging.getLogger(__name__).warning


def models_of(pipeline: Any) -> dict[str, nn.Module]:
    """Return the models that networks adapt, by component name."""
    models = {
        "unet": pipeline.unet,
        "te1": getattr(pipeline, "text_encoder", None),
        "te2": getattr(pipeline, "text_encoder_2", None),
    }
    return {component: unwrapped(model) for component, model in models.items() if model is not None}


def own_adapters(pipeline: Any) -> list[str]:
    """Return the names of the adapters that a pipeline has loaded itself and that are active."""
    names: dict[str, None] = {}
    for model in models_of(pipeline).values():
        for module in model.modules():
            if "base_layer" in module._modules and not getattr(module, "disable_adapters", False):
                names.update(dict.fromkeys(map(str, getattr(module, "active_adapters", ()))))
    return list(names)


def without_networks(module: nn.Module) -> Parameters:
    """Return a layer's parameters as the checkpoint has them, whatever is merged into them."""
    originals = originals_of(module)
    return parameters_of(module) if originals is None else originals


def load_base_checkpoint(
    pipeline: Any,
    path: Path,
    name: str = "the checkpoint",
    warn: Callable[[str], None] = _log,
    rank: int = 0,
) -> BaseCheckpoint:
    """Compare a pipeline's models with the checkpoint that they started from, layer by layer.

    Args:
        pipeline: as for `load_network`; networks may be installed in it or not.
        path: a .safetensors file, or a folder in diffusers format; read again when weak weights are made.
        name: what the user calls the loaded checkpoint.
        warn: is told which of its models the base does not have.
        rank: to which the U-Net's differences are cut, for less memory; 0 keeps them exact.

    Raises:
        NetworkError: the base is damaged, incomplete, quantised or of another architecture.
    """
    models = {
        _CALLED[component]: Model(component, component, model)
        for component, model in models_of(pipeline).items()
    }
    return compare(open_checkpoint(path), models, without_networks, name, warn, rank)
