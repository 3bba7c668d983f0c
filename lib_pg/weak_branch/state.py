"""What all layers of one weak branch share during a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from lib_pg.deltas.base import ActiveNetwork
from lib_pg.weak_branch.partial import PartialCalls
from lib_pg.weak_branch.rows import Rows, Share

_NONE = Share((), ())


class BranchState:
    """Rows and ratios of the current call; `live` is the token that makes any hook do anything.

    Args:
        networks: those in the weights; what is in `ratios`, `weak` (multipliers in the weak branch) and
            `factors` (what has to be added to them) is in their order.
        on_fault: gets an error of a hook; without it, the call of the layer raises.
        strengths: returns the multipliers that the networks have now, where a host may change them within a
            call of the model; without it they are those of `networks`.
        settle: brings a layer's own weights up to them.
        partial: tells the rows of a layer that is called with a part of them.

    Attributes:
        left: layers that were called with rows that could not be told; these were left as they are.
        watches: whether it is kept what layers are called with, since parts of it may come later.
        followed: whether the networks' strengths have changed since the beginning.
        weakened: whether any network had another strength in the weak branch; only kept with `strengths`.
    """

    def __init__(
        self,
        networks: Sequence[ActiveNetwork],
        on_fault: Callable[[Exception], None] | None,
        strengths: Callable[[], Sequence[float]] | None,
        settle: Callable[[nn.Module], None] | None,
        partial: PartialCalls,
    ) -> None:
        self.live = False
        self.rows = Rows()
        self.networks = tuple(networks)
        self.left: dict[nn.Module, None] = {}
        self.settle = settle
        self.watches = False
        self.followed = self.weakened = False
        self._on_fault = on_fault
        self._strengths = strengths
        self._partial = partial
        self._to_read = False
        self.ratios = (1.0,) * len(self.networks)
        self._weigh()

    def set_ratios(self, ratios: Sequence[float]) -> None:
        """Set omega for each network, in their order."""
        if (own := tuple(ratios)) != self.ratios:  # or the very same tuple, by which layers know them again
            self.ratios = own
            self._weigh()

    def _weigh(self) -> None:
        pairs = zip(self.networks, self.ratios, strict=True)
        self.weak = [network.weak_at(ratio) for network, ratio in pairs]
        strong = [network.strength for network in self.networks]
        self.factors = [weak - own for weak, own in zip(self.weak, strong, strict=True)]

    def set_rows(self, rows: Rows, text: Tensor | None) -> None:
        """Set the rows of the coming call of the model, and what they read."""
        self.rows = rows
        self._partial.begin(text)
        self._to_read = self._strengths is not None

    def guides(self) -> bool:
        """Say whether the coming call of a layer may have weak rows."""
        if not self.live or not self.rows.weak:
            return False
        if self._to_read:
            self._read_strengths()
        return self.live

    def share(self, module: nn.Module, x: Tensor) -> Share:
        """Return which rows of a layer's call are weak and strong; none where they cannot be told.

        A wrong row would be worse than a layer at full strength.
        """
        share = self.rows.share(x.shape[0])
        if share is None:
            share = self._partial.share(module, x, self.rows)
        elif self.watches and len(x) == self.rows.total:
            self._partial.remember(module, x)
        if share is None:
            self.left[module] = None
            return _NONE
        return share

    def fail(self, error: Exception) -> None:
        """End the branch: from now on no hook does anything."""
        if self._on_fault is None:
            raise error
        self.live = False
        self._on_fault(error)

    def _read_strengths(self) -> None:
        """Follow what is in the weights now: once in a call of the model, at its first adapted layer."""
        self._to_read = False
        assert self._strengths is not None
        try:
            now = [float(strength) for strength in self._strengths()]
            if now != [network.strength for network in self.networks]:
                pairs = zip(self.networks, now, strict=True)
                self.networks = tuple(replace(network, strength=own) for network, own in pairs)
                self._weigh()
                self.followed = True
            self.weakened = self.weakened or any(self.factors)
        except Exception as error:
            self.fail(error)
