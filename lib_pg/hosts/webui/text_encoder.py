"""A WebUI's text encoders at omega, while they encode the null prompt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from lib_pg.networks import Network
from lib_pg.weak_branch import Pristine, weakened


def weakened_text(
    networks: Sequence[Network], ratios: Sequence[float], pristine: Pristine
) -> AbstractContextManager[None]:
    """Return a context manager in which the networks' `te` parts are at omega, whatever is encoded.

    Args:
        networks: those in the text encoders' weights.
        ratios: omega in [0, 1] for each of them, in that order.
        pristine: returns a layer's parameters without networks.
    """
    in_text = [
        (network.parts["te"], ratio)
        for network, ratio in zip(networks, ratios, strict=True)
        if "te" in network.parts
    ]
    return weakened([part for part, _ in in_text], [ratio for _, ratio in in_text], pristine)
