"""Small layers of every kind that low-rank networks adapt, and what their weak rows should be."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Delta, LowRank
from lib_pg.deltas.merge import add_networks
from lib_pg.weak_branch import WeakBranch
from lib_pg.weak_branch.choice import Choice

ROWS = 4
OMEGA = 0.3
STRENGTH = -0.7

ENGINES = ("thin", "split", "joined")
engines = pytest.mark.parametrize("engine", ENGINES)


def branch_of(networks: Sequence[ActiveNetwork], engine: str = "thin", **options: Any) -> WeakBranch:
    """Return a branch whose layers all have one engine, as small as they are."""

    def choice(module: nn.Module, deltas: Sequence[Delta]) -> Choice:
        return Choice("split" if engine == "split" else "thin", "a test")

    if engine == "joined":
        options["joins"] = lambda module, forward: isinstance(module, nn.Linear)
    return WeakBranch(networks, choice=choice, **options)


def linear() -> tuple[nn.Module, Tensor]:
    return nn.Linear(12, 10), torch.randn(ROWS, 5, 12)


def linear_of_vectors() -> tuple[nn.Module, Tensor]:
    return nn.Linear(12, 10, bias=False), torch.randn(ROWS, 12)


def convolution(**options: Any) -> tuple[nn.Module, Tensor]:
    return nn.Conv2d(6, 8, **({"kernel_size": 3, "padding": 1} | options)), torch.randn(ROWS, 6, 9, 11)


def channels_last() -> tuple[nn.Module, Tensor]:
    layer, x = convolution()
    return layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)


LAYERS = {
    "linear": linear,
    "vectors": linear_of_vectors,
    "3x3": convolution,
    "1x1": lambda: convolution(kernel_size=1, padding=0),
    "strided": lambda: convolution(stride=2),
    "oblong": lambda: convolution(kernel_size=(1, 3), padding=(0, 1)),
    "dilated": lambda: convolution(dilation=2, padding=2),
    "circular": lambda: convolution(padding_mode="circular"),
    "channels last": channels_last,
}
layers = pytest.mark.parametrize("layer", LAYERS)


def make(layer: str, seed: int = 0) -> tuple[nn.Module, Tensor, LowRank]:
    torch.manual_seed(seed)
    module, x = LAYERS[layer]()
    shape = module.weight.shape
    return module, x, LowRank(torch.randn(3, *shape[1:]), torch.randn(shape[0], 3) * 0.2, scale=0.5)


def weakened(module: nn.Module, networks: list[ActiveNetwork], ratios: list[float]) -> nn.Module:
    """Return a copy of a layer with theta_w = theta_ft - (1 - omega) strength dW in its weight."""
    other = copy.deepcopy(module)
    other._forward_hooks.clear()
    vars(other).pop("forward", None)
    for network, ratio in zip(networks, ratios, strict=True):
        delta = network.deltas[module]
        add_networks([ActiveNetwork("", {other: delta}, network.strength)], ratio - 1.0)
    return other


def expected(module: nn.Module, weak: nn.Module, x: Tensor, rows: list[int]) -> Tensor:
    output = module(x).clone()
    output[rows] = weak(x)[rows]
    return output
