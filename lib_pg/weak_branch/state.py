"""What all layers of one weak branch share during a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lib_pg.weak_branch.rows import Rows


class BranchState:
    """Rows and ratios of the current call; `live` is the token that makes any hook do anything.

    Args:
        strengths: the multipliers at which the networks are in the weights.
        on_fault: gets an error of a hook; without it, the call of the layer raises.
    """

    def __init__(self, strengths: Sequence[float], on_fault: Callable[[Exception], None] | None) -> None:
        self.live = False
        self.rows = Rows()
        self.strengths = tuple(strengths)
        self.ratios: tuple[float, ...] = (1.0,) * len(self.strengths)
        self.factors = [0.0] * len(self.strengths)
        self._on_fault = on_fault

    def set_ratios(self, ratios: Sequence[float]) -> None:
        """Set omega for each network, in their order."""
        self.ratios = tuple(ratios)
        self.factors = [
            (ratio - 1.0) * strength for ratio, strength in zip(ratios, self.strengths, strict=True)
        ]

    def fail(self, error: Exception) -> None:
        """End the branch: from now on no hook does anything."""
        if self._on_fault is None:
            raise error
        self.live = False
        self._on_fault(error)
