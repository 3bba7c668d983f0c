"""A WebUI's text encoders at omega, while they encode the null prompt."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pg.networks import Network
from lib_pg.weak_branch import WeakBranch


def weakened_text(networks: Sequence[Network], ratios: Sequence[float]) -> WeakBranch:
    """Return a context manager in which the networks' `te` parts are at omega, whatever is encoded.

    Args:
        networks: those in the text encoders' weights.
        ratios: omega in [0, 1] for each of them, in that order.
    """
    in_text = [
        (network.parts["te"], ratio)
        for network, ratio in zip(networks, ratios, strict=True)
        if "te" in network.parts
    ]
    branch = WeakBranch([part for part, _ in in_text])
    branch.set_ratios([ratio for _, ratio in in_text])
    branch.set_rows((0,), 1)
    return branch
