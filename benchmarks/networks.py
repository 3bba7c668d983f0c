"""Random networks of every kind, small enough that outputs keep their size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Additive, Delta, LowRank
from lib_pg.deltas.bias import WithBias
from lib_pg.deltas.dora import Dora
from lib_pg.deltas.full import FullDifference
from lib_pg.deltas.glora import GLora
from lib_pg.deltas.ia3 import IA3
from lib_pg.deltas.loha import LoHa
from lib_pg.deltas.lokr import LoKr
from lib_pg.deltas.oft import Boft, Oft
from lib_pg.networks import Network

Noise = Callable[..., Tensor]
Maker = Callable[[nn.Module, Noise, int], Delta]

RANK = 32
# Which layers a network adapts: the linear ones of attention, those and the feed-forward ones (what most
# trainers do without further options), or every linear layer and every convolution of the model.
LAYERS = ("attention", "blocks", "all")
_LOKR_FACTOR = 8
_BLOCK = 8  # outputs that OFT turns together


def random_network(
    model: nn.Module, kind: str = "LoRA", rank: int = RANK, layers: str = "blocks", seed: int = 1
) -> Network:
    """Return a network on layers of a model, on its device, as a host has it from a file of its type.

    Args:
        kind: one of `KINDS`.
        rank: of LoRA and DoRA; half of it for GLoRA and the factor of a LoKr, a quarter for LoHa, whose
            products have the square. Other kinds have none.
        layers: one of `LAYERS`; convolutions can have a LoRA only.
    """
    weight = next(model.parameters())
    generator = torch.Generator(weight.device).manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=weight.device)

    deltas = {module: _placed(KINDS[kind](module, noise, rank), weight) for module in adapted(model, layers)}
    return Network(kind, {"unet": ActiveNetwork(kind, deltas)})


def adapted(model: nn.Module, layers: str) -> Iterator[nn.Module]:
    """Yield the layers of a model that `layers`, one of `LAYERS`, means."""
    for name, module in model.named_modules():
        inside = isinstance(module, nn.Linear) and "transformer_blocks." in name and ".norm" not in name
        if (
            (layers == "all" and isinstance(module, (nn.Linear, nn.Conv2d)))
            or (layers == "blocks" and inside)
            or (layers == "attention" and inside and ".attn" in name)
        ):
            yield module


def _placed(delta: Any, weight: Tensor) -> Any:
    """Return a delta with what is multiplied with in the type of a model's weight, as hosts place it."""
    if isinstance(delta, Additive):
        return delta.to(weight.device, weight.dtype)
    inner = {field.name: getattr(delta, field.name) for field in fields(delta)}
    return replace(
        delta, **{name: _placed(value, weight) for name, value in inner.items() if isinstance(value, Delta)}
    )


def _lora(layer: nn.Module, noise: Noise, rank: int) -> LowRank:
    out, into, *kernel = layer.weight.shape
    return _low_rank((into, *kernel), out, rank, noise)


def _low_rank(into: tuple[int, ...], out: int, rank: int, noise: Noise) -> LowRank:
    down, up = noise(rank, *into), noise(out, rank)
    return LowRank(down * down[0].numel() ** -0.5, up * rank**-0.5, scale=0.1)


def _loha(layer: nn.Module, noise: Noise, rank: int) -> LoHa:
    out, into = layer.weight.shape
    low = rank // 4
    return LoHa(noise(out, low), noise(low, into), noise(out, low), noise(low, into), 0.01 * into**-0.5)


def _lokr(layer: nn.Module, noise: Noise, rank: int) -> LoKr:
    """As LyCORIS makes it: a small square matrix and, at a high dimension, the whole of the other factor."""
    out, into = layer.weight.shape
    whole = noise(out // _LOKR_FACTOR, into // _LOKR_FACTOR)
    return LoKr(noise(_LOKR_FACTOR, _LOKR_FACTOR), whole, 0.1 * into**-0.5)


def _low_lokr(layer: nn.Module, noise: Noise, rank: int) -> LoKr:
    out, into = (size // _LOKR_FACTOR for size in layer.weight.shape)
    return LoKr(noise(_LOKR_FACTOR, _LOKR_FACTOR), _low_rank((into,), out, rank // 2, noise), 0.3)


def _dora(layer: nn.Module, noise: Noise, rank: int) -> Dora:
    lengths = layer.weight.detach().float().norm(dim=1)
    return Dora(lengths * (1 + 0.05 * noise(len(lengths))), _lora(layer, noise, rank))


def _glora(layer: nn.Module, noise: Noise, rank: int) -> GLora:
    out, into = layer.weight.shape
    return GLora(_low_rank((into,), into, rank // 2, noise), _low_rank((into,), out, rank // 2, noise))


def _ia3(layer: nn.Module, noise: Noise, rank: int) -> IA3:
    return IA3(0.1 * noise(len(layer.weight)), by_input=False)


def _oft(layer: nn.Module, noise: Noise, rank: int) -> Oft:
    return Oft(_turns(len(layer.weight) // _BLOCK, noise))


def _boft(layer: nn.Module, noise: Noise, rank: int) -> Boft:
    return Boft(torch.stack([_turns(len(layer.weight) // _BLOCK, noise) for _ in range(3)]))


def _turns(blocks: int, noise: Noise) -> Tensor:
    turn = 0.1 * noise(blocks, _BLOCK, _BLOCK)
    return torch.matrix_exp(turn - turn.transpose(1, 2))


def _full(layer: nn.Module, noise: Noise, rank: int) -> Delta:
    out, into = layer.weight.shape
    change = noise(out, into) * 0.1 * into**-0.5
    return WithBias(0.1 * noise(out), FullDifference(change.to(layer.weight.dtype)))


KINDS: dict[str, Maker] = {
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
