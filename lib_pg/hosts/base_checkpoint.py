"""A full fine-tune in a host: what the loaded checkpoint has beyond the one it started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from lib_pg.deltas import ActiveNetwork, Parameters
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.formats.checkpoint import Checkpoint, Model, difference
from lib_pg.networks import Network
from lib_pg.weak_branch import KeptWeights


@dataclass(frozen=True, eq=False)
class BaseCheckpoint:
    """What a loaded checkpoint started from.

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


def compare(
    checkpoint: Checkpoint,
    models: Mapping[str, Model],
    own: Callable[[nn.Module], Parameters],
    name: str,
    warn: Callable[[str], None],
) -> BaseCheckpoint:
    """Compare loaded models with the checkpoint that they started from, layer by layer.

    Args:
        models: by what users call them.
        own: returns a layer's parameters in the loaded checkpoint, without any network.
        name: what the user calls the loaded checkpoint.
        warn: is told which of its models the base does not have.

    Raises:
        NetworkError: the base is damaged, incomplete, quantised or of another architecture.
    """
    deltas: dict[str, dict[nn.Module, FineTune]] = {}
    equal = 0
    for called, model in models.items():
        found = difference(checkpoint, called, model, own)
        if found is None:
            warn(f"{checkpoint.name} has no {called}; both branches have that of {name}")
            continue
        equal += found.equal
        deltas.setdefault(model.part, {}).update(found.deltas)
    parts = {part: ActiveNetwork(name, layers) for part, layers in deltas.items() if layers}
    changed = sum(len(part.deltas) for part in parts.values())
    return BaseCheckpoint(Network(name, parts, base=checkpoint.name), changed, equal)
