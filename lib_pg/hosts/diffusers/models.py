"""The models of a pipeline that networks and fine-tunes change."""

from __future__ import annotations

from typing import Any

from torch import nn

from lib_pg.deltas import Parameters
from lib_pg.deltas.merge import originals_of, parameters_of


def models_of(pipeline: Any) -> dict[str, nn.Module]:
    """Return the models that networks adapt, by component name."""
    models = {
        "unet": pipeline.unet,
        "te1": getattr(pipeline, "text_encoder", None),
        "te2": getattr(pipeline, "text_encoder_2", None),
    }
    return {component: model for component, model in models.items() if model is not None}


def without_networks(module: nn.Module) -> Parameters:
    """Return a layer's parameters as the checkpoint has them, whatever is merged into them."""
    originals = originals_of(module)
    return parameters_of(module) if originals is None else originals
