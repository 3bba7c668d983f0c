"""Deltas written into weights, and taken out again bit for bit: networks where there is no host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import ActiveNetwork


@torch.no_grad()
def add_networks(networks: Sequence[ActiveNetwork], ratio: float = 1.0) -> None:
    """Add `ratio * strength * dW` of every network to the weights of its layers, summed in float32.

    Args:
        networks: what to add; several may share a layer.
        ratio: omega in [0, 1]; 1 gives the personalised model, less gives
            theta_w = theta_pre + omega * (theta_ft - theta_pre) when the weights are theta_pre.
    """
    for module, total in _totals(networks, ratio):
        weight = _weight(module)
        weight.copy_(weight.float() + total.to(weight.device))


@contextmanager
def merged(networks: Sequence[ActiveNetwork], ratio: float = 1.0) -> Iterator[None]:
    """Have `networks` in the weights for the time of the block; afterwards the weights are bit-identical."""
    modules = dict.fromkeys(module for network in networks for module in network.deltas)
    saved = [(_weight(module), _weight(module).detach().clone()) for module in modules]
    try:
        add_networks(networks, ratio)
        yield
    finally:
        with torch.no_grad():
            for weight, original in saved:
                weight.copy_(original)


def _totals(networks: Sequence[ActiveNetwork], ratio: float) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield, layer by layer, the sum of what all networks add to it: one rounding however many there are."""
    for module in dict.fromkeys(module for network in networks for module in network.deltas):
        parts = [
            network.deltas[module].dense().mul_(ratio * network.strength)
            for network in networks
            if module in network.deltas
        ]
        yield module, torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{type(module).__name__} has no weight tensor to add a network to")
    return weight
