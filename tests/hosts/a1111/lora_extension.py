"""A small stand-in of AUTOMATIC1111's Lora extension: it merges layer by layer, at the next call of each.

Only what its kinds of parts have in common is like the host's: how they are called and what is made of them.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_LINEAR = nn.Linear.forward


@dataclass
class Network:
    """The host's own object of an active network; `kind` says of which parts it is to be made."""

    name: str
    te_multiplier: float = 1.0
    unet_multiplier: float = 1.0
    dyn_dim: int | None = None
    modules: dict[str, Any] = field(default_factory=dict)
    mtime: float = 0.0
    kind: str = "LoRA"
    network_on_disk: Any = field(default_factory=lambda: types.SimpleNamespace(metadata={}))

    def __post_init__(self) -> None:
        self.mentioned_name = self.name


class NetworkModule:
    """One network's part for one layer."""

    def __init__(self, network: Network, key: str, layer: nn.Module, shape: Sequence[int]) -> None:
        self.network = network
        self.key = key
        self.layer = layer
        self.shape = tuple(shape)
        self.bias = self.dora_scale = None

    def multiplier(self) -> float:
        in_text = self.key.startswith("transformer")
        return self.network.te_multiplier if in_text else self.network.unet_multiplier

    def calc_scale(self) -> float:
        return 0.5

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what is added to weight and bias at multiplier 1."""
        raise NotImplementedError

    def calc_updown(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.change(target)
        return weight * self.multiplier(), None if bias is None else bias * self.multiplier()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weight, bias = self.calc_updown(self.layer.weight)
        product = functional.conv2d if isinstance(self.layer, nn.Conv2d) else functional.linear
        return y + product(x, weight, bias)


class NetworkModuleLora(NetworkModule):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        conv = len(self.shape) == 4
        out, width, rank = self.shape[0], self.shape[1], 2
        self.down_model = (
            nn.Conv2d(width, rank, 1, bias=False) if conv else nn.Linear(width, rank, bias=False)
        )
        self.up_model = nn.Conv2d(rank, out, 1, bias=False) if conv else nn.Linear(rank, out, bias=False)
        self.mid_model = None

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        rank = self.network.dyn_dim
        up, down = self.up_model.weight.flatten(1)[:, :rank], self.down_model.weight.flatten(1)[:rank]
        added = (self.calc_scale() * up @ down).view(weight.shape)
        if self.dora_scale is not None:
            total = weight + added
            length = total.flatten(1).norm(dim=0, keepdim=True).view(1, -1, *[1] * (weight.ndim - 2))
            added = total * (self.dora_scale / length) - weight
        return added, None


class NetworkModuleHada(NetworkModule):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        out, inputs = self.shape[0], torch.Size(self.shape[1:]).numel()
        self.factors = [torch.randn(size) for size in ((out, 2), (2, inputs), (out, 2), (2, inputs))]

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        a, b, c, d = self.factors
        return 0.1 * ((a @ b) * (c @ d)).view(weight.shape), None


class NetworkModuleIa3(NetworkModule):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.weight = 0.5 * torch.randn(self.shape[0], *[1] * (len(self.shape) - 1))

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        return weight * self.weight, None


class NetworkModuleFull(NetworkModule):
    """A difference of its own for weight and bias."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.diff, self.diff_b = 0.3 * torch.randn(self.shape), 0.3 * torch.randn(self.shape[0])

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.diff, self.diff_b


class NetworkModuleNorm(NetworkModuleFull):
    """The same for a layer that normalises."""


class NetworkModuleNewest(NetworkModule):
    """A kind that nobody has heard of: it turns the weight it finds."""

    def change(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        return weight.roll(1, 0) - weight, None


KINDS: dict[str, type[NetworkModule]] = {
    "LoRA": NetworkModuleLora,
    "DoRA": NetworkModuleLora,
    "LoHa": NetworkModuleHada,
    "IA3": NetworkModuleIa3,
    "full difference": NetworkModuleFull,
    "Newest": NetworkModuleNewest,
}


def make_parts(network: Network, layers: dict[str, nn.Module], seed: int) -> None:
    """Give a network a part for every layer; norms have parts where the network has differences."""
    for number, (key, layer) in enumerate(layers.items()):
        torch.default_generator.manual_seed(1000 * seed + number)
        if isinstance(layer, nn.MultiheadAttention):
            for letter in ("q", "k", "v", "out"):
                _add(network, f"{key}_{letter}_proj", layer, layer.out_proj.weight.shape)
        elif isinstance(layer, nn.GroupNorm):
            if network.kind == "full difference":
                network.modules[key] = NetworkModuleNorm(network, key, layer, layer.weight.shape)
        else:
            _add(network, key, layer, layer.weight.shape)


def _add(network: Network, key: str, layer: nn.Module, shape: Sequence[int]) -> None:
    part = KINDS[network.kind](network, key, layer, shape)
    if network.kind == "DoRA":
        part.dora_scale = 0.5 + torch.rand(1, shape[1], *[1] * (len(shape) - 2))
    network.modules[key] = part


class _Merging(nn.Module):
    """What the host makes of every layer: its forward merges first."""

    network_layer_name: str | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return _forward(self, super().forward, *args, **kwargs)


class Linear(nn.Linear):
    """Merges with the forward that the host gives the class itself while it runs."""

    network_layer_name: str | None = None


def network_Linear_forward(layer: Any, x: Tensor) -> Tensor:
    if getattr(layer, "network_layer_name", None) is None:
        return _LINEAR(layer, x)
    output: Tensor = _forward(layer, partial(_LINEAR, layer), x)
    return output


def _forward(layer: nn.Module, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    lora = sys.modules["networks"]
    if not lora.functional or isinstance(layer, nn.MultiheadAttention):
        lora.network_apply_weights(layer)
        return original(*args, **kwargs)
    _restore(layer)
    y = original(*args, **kwargs)
    for network in lora.loaded_networks:
        if part := network.modules.get(layer.network_layer_name):
            y = part.forward(args[0], y)
    return y


class Conv2d(_Merging, nn.Conv2d): ...


class GroupNorm(_Merging, nn.GroupNorm): ...


class MultiheadAttention(_Merging, nn.MultiheadAttention): ...


def network_apply_weights(layer: Any) -> None:
    """Merge what is active into a layer, unless that is in it already."""
    active = sys.modules["networks"].loaded_networks
    wanted = tuple((n.name, n.te_multiplier, n.unet_multiplier, n.dyn_dim) for n in active)
    if getattr(layer, "network_current_names", ()) == wanted:
        return
    if getattr(layer, "network_weights_backup", None) is None:
        _keep(layer)
    _restore(layer)
    for network in active:
        try:
            _merge(layer, network)
        except RuntimeError:  # the network does not fit and is passed over
            continue
    layer.network_current_names = wanted


def _merge(layer: Any, network: Network) -> None:
    name = layer.network_layer_name
    if isinstance(layer, nn.MultiheadAttention):
        q, k, v, out = (network.modules.get(f"{name}_{letter}_proj") for letter in ("q", "k", "v", "out"))
        if q and k and v and out:
            pieces = layer.in_proj_weight.chunk(3, 0)
            changes = [part.calc_updown(piece)[0] for part, piece in zip((q, k, v), pieces, strict=True)]
            added, bias = out.calc_updown(layer.out_proj.weight)
            layer.in_proj_weight += torch.vstack(changes)
            layer.out_proj.weight += added
            if bias is not None:
                layer.out_proj.bias += bias
    elif part := network.modules.get(name):
        added, bias = part.calc_updown(layer.weight)
        layer.weight += added
        if bias is not None and layer.bias is None:
            layer.bias = nn.Parameter(bias, requires_grad=False)
        elif bias is not None:
            layer.bias += bias


def _keep(layer: Any) -> None:
    attention = isinstance(layer, nn.MultiheadAttention)
    bias = layer.out_proj.bias if attention else layer.bias
    weights = (layer.in_proj_weight, layer.out_proj.weight) if attention else (layer.weight,)
    kept = tuple(weight.detach().clone() for weight in weights)
    layer.network_weights_backup = kept if attention else kept[0]
    layer.network_bias_backup = None if bias is None else bias.detach().clone()


def _restore(layer: Any) -> None:
    kept, bias = getattr(layer, "network_weights_backup", None), getattr(layer, "network_bias_backup", None)
    if kept is None:
        return
    owner = layer.out_proj if isinstance(layer, nn.MultiheadAttention) else layer
    if owner is not layer:
        layer.in_proj_weight.copy_(kept[0])
        kept = kept[1]
    owner.weight.copy_(kept)
    if bias is None:
        owner.bias = None
    else:
        owner.bias.copy_(bias)


def extension(networks: list[Network], functional: bool) -> types.ModuleType:
    """Return the module that the host's extension is."""
    module: Any = types.ModuleType("networks")
    module.loaded_networks = networks
    module.network_apply_weights = network_apply_weights
    module.functional = functional
    module.network_Linear_forward = network_Linear_forward
    module.originals = types.SimpleNamespace(Linear_forward=_LINEAR)
    return module  # type: ignore[no-any-return]
