"""A full fine-tune in a pipeline: what the loaded checkpoint has beyond the one it started from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from lib_pg.deltas import ActiveNetwork, Parameters
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.formats.checkpoint import difference, open_checkpoint
from lib_pg.hosts.diffusers.models import models_of, without_networks
from lib_pg.networks import Network
from lib_pg.weak_branch import KeptWeights

_log = logging.getLogger(__name__).warning


@dataclass(frozen=True, eq=False)
class BaseCheckpoint:
    """What a pipeline's checkpoint started from.

    Attributes:
        network: what it has learned since, for each of its models.
        changed, equal: number of layers that it has moved, and that it has not.
        kept: weak weights, from one guided run to the next; they are freed with this object.
    """

    network: Network
    changed: int
    equal: int
    kept: KeptWeights = field(default_factory=dict)

    def pristine(self, module: nn.Module) -> Parameters | None:
        """Return a layer's parameters in the base; None where the fine-tune has not moved it."""
        for part in self.network.parts.values():
            delta = part.deltas.get(module)
            if isinstance(delta, FineTune):
                return {**delta.own(), **delta.base()}
        return None


def load_base_checkpoint(
    pipeline: Any, path: Path, name: str = "the checkpoint", warn: Callable[[str], None] = _log
) -> BaseCheckpoint:
    """Compare a pipeline's models with the checkpoint that they started from, layer by layer.

    Args:
        pipeline: as for `load_network`; networks may be installed in it or not.
        path: a .safetensors file, or a folder in diffusers format; read again when weak weights are made.
        name: what the user calls the loaded checkpoint.
        warn: is told which of its models the base does not have.

    Raises:
        NetworkError: the base is damaged, incomplete, quantised or of another architecture.
    """
    checkpoint = open_checkpoint(path)
    parts, equal = {}, 0
    for component, model in models_of(pipeline).items():
        found = difference(checkpoint, component, model, without_networks)
        if found is None:
            warn(f"{checkpoint.name} has no {_CALLED[component]}; both branches have that of {name}")
            continue
        equal += found.equal
        if found.deltas:
            parts[component] = ActiveNetwork(name, found.deltas)
    changed = sum(len(part.deltas) for part in parts.values())
    return BaseCheckpoint(Network(name, parts, base=checkpoint.name), changed, equal)


_CALLED = {"unet": "U-Net", "te1": "text encoder", "te2": "second text encoder"}
