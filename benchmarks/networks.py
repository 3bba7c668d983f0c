"""Random networks of every kind for a U-Net, small enough that outputs keep their size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Delta, LowRank
from lib_pg.deltas.bias import WithBias
from lib_pg.deltas.dora import Dora
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.deltas.full import FullDifference
from lib_pg.deltas.glora import GLora
from lib_pg.deltas.ia3 import IA3
from lib_pg.deltas.loha import LoHa
from lib_pg.deltas.lokr import LoKr
from lib_pg.deltas.merge import parameters_of
from lib_pg.deltas.oft import Boft, Oft
from lib_pg.hosts.diffusers import BaseCheckpoint
from lib_pg.networks import Network

Noise = Callable[..., Tensor]

RANK = 32
_LOKR_FACTOR = 8
_LOHA_RANK = 8
_GLORA_RANK = 16
_BLOCK = 8  # outputs that OFT turns together


def random_network(unet: nn.Module, kind: str = "LoRA") -> Network:
    """Return a network on every linear layer of the attention and feed-forward blocks.

    Args:
        kind: one of `KINDS`.
    """
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    deltas: dict[nn.Module, Delta] = {
        module: KINDS[kind](module, noise)
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and ".transformer_blocks." in name
    }
    return Network(kind, {"unet": ActiveNetwork(kind, deltas)})


def random_base(unet: nn.Module) -> BaseCheckpoint:
    """Return a base checkpoint that differs in every layer; it is made up when it is read."""

    def delta(module: nn.Module) -> FineTune:
        own = {name: value for name, value in parameters_of(module).items() if value is not None}
        return FineTune(lambda: own, lambda: {name: value * 0.98 for name, value in own.items()})

    deltas = {
        module: delta(module)
        for module in unet.modules()
        if any(value is not None for value in module._parameters.values())
    }
    parts = {"unet": ActiveNetwork("fine-tune", deltas)}
    return BaseCheckpoint(Network("fine-tune", parts, base="base"), len(deltas), 0, parameters_of)


def _lora(layer: nn.Linear, noise: Noise) -> LowRank:
    return _low_rank(layer.in_features, layer.out_features, RANK, noise)


def _low_rank(in_features: int, out_features: int, rank: int, noise: Noise) -> LowRank:
    down, up = noise(rank, in_features), noise(out_features, rank)
    return LowRank(down * in_features**-0.5, up * rank**-0.5, scale=0.1)


def _loha(layer: nn.Linear, noise: Noise) -> LoHa:
    into, out, rank = layer.in_features, layer.out_features, _LOHA_RANK
    return LoHa(noise(out, rank), noise(rank, into), noise(out, rank), noise(rank, into), 0.01 * into**-0.5)


def _lokr(layer: nn.Linear, noise: Noise) -> LoKr:
    """As LyCORIS makes it: a small square matrix and, at a high dimension, the whole of the other factor."""
    rows, columns = layer.out_features // _LOKR_FACTOR, layer.in_features // _LOKR_FACTOR
    return LoKr(noise(_LOKR_FACTOR, _LOKR_FACTOR), noise(rows, columns), 0.1 * layer.in_features**-0.5)


def _low_lokr(layer: nn.Linear, noise: Noise) -> LoKr:
    rows, columns = layer.out_features // _LOKR_FACTOR, layer.in_features // _LOKR_FACTOR
    return LoKr(noise(_LOKR_FACTOR, _LOKR_FACTOR), _low_rank(columns, rows, RANK // 2, noise), 0.3)


def _dora(layer: nn.Linear, noise: Noise) -> Dora:
    lengths = layer.weight.detach().float().norm(dim=1)
    return Dora(lengths * (1 + 0.05 * noise(layer.out_features)), _lora(layer, noise))


def _glora(layer: nn.Linear, noise: Noise) -> GLora:
    into, out = layer.in_features, layer.out_features
    return GLora(_low_rank(into, into, _GLORA_RANK, noise), _low_rank(into, out, _GLORA_RANK, noise))


def _ia3(layer: nn.Linear, noise: Noise) -> IA3:
    return IA3(0.1 * noise(layer.out_features), by_input=False)


def _oft(layer: nn.Linear, noise: Noise) -> Oft:
    return Oft(_turns(layer.out_features // _BLOCK, noise))


def _boft(layer: nn.Linear, noise: Noise) -> Boft:
    return Boft(torch.stack([_turns(layer.out_features // _BLOCK, noise) for _ in range(3)]))


def _turns(blocks: int, noise: Noise) -> Tensor:
    turn = 0.1 * noise(blocks, _BLOCK, _BLOCK)
    return torch.matrix_exp(turn - turn.transpose(1, 2))


def _full(layer: nn.Linear, noise: Noise) -> Delta:
    weight = FullDifference(noise(layer.out_features, layer.in_features) * 0.1 * layer.in_features**-0.5)
    return WithBias(0.1 * noise(layer.out_features), weight)


KINDS: dict[str, Callable[[nn.Linear, Noise], Delta]] = {
    "LoRA": _lora,
    "LoHa": _loha,
    "LoKr": _lokr,
    "LoKr, low rank": _low_lokr,
    "DoRA": _dora,
    "GLoRA": _glora,
    "(IA)3": _ia3,
    "OFT": _oft,
    "BOFT": _boft,
    "full difference": _full,
}
