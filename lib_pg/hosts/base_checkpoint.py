"""A full fine-tune in a host: what the loaded checkpoint has beyond the one it started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Delta, Parameters
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.deltas.truncated import Truncated
from lib_pg.formats.checkpoint import Checkpoint
from lib_pg.formats.difference import Model, difference
from lib_pg.networks import Network
from lib_pg.weak_branch import KeptWeights


@dataclass(frozen=True, eq=False)
class BaseCheckpoint:
    """What a loaded checkpoint started from.

    Attributes:
        network: what it has learned since, for each of its models.
        changed, equal: number of layers that it has moved, and that it has not.
        own: returns a layer's parameters in the loaded checkpoint.
        error: share of the differences that was lost with cutting them to a low rank, in the Euclidean norm.
        kept: weak weights, from one guided run to the next.
    """

    network: Network
    changed: int
    equal: int
    own: Callable[[nn.Module], Parameters]
    error: float = 0.0
    kept: KeptWeights = field(default_factory=dict)

    def pristine(self, module: nn.Module) -> Parameters | None:
        """Return a layer's parameters in the base; None where the fine-tune has not moved it."""
        for part in self.network.parts.values():
            delta = part.deltas.get(module)
            if isinstance(delta, FineTune):
                return {**delta.own(), **delta.base()}
            if isinstance(delta, Truncated):
                own = self.own(module)
                return {
                    **own,
                    **{name: _less(own[name], c) for name, c in delta.contribution(own, 1.0).items()},
                }
        return None

    def free(self) -> None:
        """Let go of all weights: an ended pass of a host may hold this object for a long time."""
        for weights in self.kept.values():
            weights.free()
        self.kept.clear()

    def describe(self) -> str:
        """Say how many layers differ from the base, and how exactly the differences are kept."""
        base = self.network.base
        said = f"{self.changed} layers are others than in {base}, {self.equal} are equal"
        return f"{said}; low rank keeps all but {self.error:.1%} of the differences" if self.error else said


def _less(own: Tensor | None, change: Tensor) -> Tensor:
    assert own is not None
    return own.detach().float() - change.to(own.device)


def compare(
    checkpoint: Checkpoint,
    models: Mapping[str, Model],
    own: Callable[[nn.Module], Parameters],
    name: str,
    warn: Callable[[str], None],
    rank: int = 0,
) -> BaseCheckpoint:
    """Compare loaded models with the checkpoint that they started from, layer by layer.

    Args:
        models: by what users call them.
        own: returns a layer's parameters in the loaded checkpoint, without any network.
        name: what the user calls the loaded checkpoint.
        warn: is told which of its models the base does not have.
        rank: to which differences of the U-Net are cut, for less memory; 0 keeps them exact.

    Raises:
        NetworkError: the base is damaged, incomplete, quantised or of another architecture.
    """
    deltas: dict[str, dict[nn.Module, Delta]] = {}
    equal, whole, lost = 0, 0.0, 0.0
    for called, model in models.items():
        found = difference(checkpoint, called, model, own, rank)
        if found is None:
            warn(f"{checkpoint.name} has no {called}; both branches have that of {name}")
            continue
        equal, whole, lost = equal + found.equal, whole + found.whole, lost + found.lost
        deltas.setdefault(model.part, {}).update(found.deltas)
    parts = {part: ActiveNetwork(name, layers) for part, layers in deltas.items() if layers}
    changed = sum(len(part.deltas) for part in parts.values())
    network = Network(name, parts, base=checkpoint.name)
    return BaseCheckpoint(network, changed, equal, own, (lost / whole) ** 0.5 if whole else 0.0)
