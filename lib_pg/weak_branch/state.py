"""What all layers of one weak branch share during a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lib_pg.deltas.base import ActiveNetwork
from lib_pg.weak_branch.rows import Rows


class BranchState:
    """Rows and ratios of the current call; `live` is the token that makes any hook do anything.

    Args:
        networks: those in the weights; what is in `ratios`, `weak` (multipliers in the weak branch) and
            `factors` (what has to be added to them) is in their order.
        on_fault: gets an error of a hook; without it, the call of the layer raises.
    """

    def __init__(
        self, networks: Sequence[ActiveNetwork], on_fault: Callable[[Exception], None] | None
    ) -> None:
        self.live = False
        self.rows = Rows()
        self.networks = tuple(networks)
        self._on_fault = on_fault
        self.set_ratios([1.0] * len(self.networks))

    def set_ratios(self, ratios: Sequence[float]) -> None:
        """Set omega for each network, in their order."""
        self.ratios = tuple(ratios)
        self.weak = [network.weak_at(ratio) for network, ratio in zip(self.networks, ratios, strict=True)]
        strong = [network.strength for network in self.networks]
        self.factors = [weak - own for weak, own in zip(self.weak, strong, strict=True)]

    def fail(self, error: Exception) -> None:
        """End the branch: from now on no hook does anything."""
        if self._on_fault is None:
            raise error
        self.live = False
        self._on_fault(error)
