"""A WebUI's text encoders at omega, while they encode the null prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from lib_pg.networks import Network
from lib_pg.weak_branch import Pristine, weakened


def weakened_text(
    networks: Sequence[Network],
    ratios: Sequence[float],
    pristine: Pristine,
    strengths: Callable[[], Sequence[float]] | None = None,
) -> AbstractContextManager[None]:
    """Return a context manager in which the networks' `te` parts are at omega, whatever is encoded.

    Args:
        networks: those in the text encoders' weights.
        ratios: omega in [0, 1] for each of them, in that order.
        pristine: returns a layer's parameters without networks.
        strengths: returns what those with a `te` part have in the text encoders now, where a host may change
            it while it encodes.
    """
    in_text = [
        (network.parts["te"], ratio)
        for network, ratio in zip(networks, ratios, strict=True)
        if "te" in network.parts
    ]
    return weakened([part for part, _ in in_text], [ratio for _, ratio in in_text], pristine, strengths)
