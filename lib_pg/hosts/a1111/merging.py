"""AUTOMATIC1111's own merging of networks, asked about one layer at a time.

The host keeps a layer's parameters as they were, merges its networks one after the other at the layer's next
call, and only where the list of networks has changed since. A part of a network that fails there, because it
is of another shape, is passed over. With its setting `lora_functional` it merges nothing into most layers:
the forward adds what a network changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas import Additive, Delta, Parameters
from lib_pg.hosts.webui.lora_extension import lora_module
from lib_pg.weak_branch import is_torch_s, layer_shape

# Channels that an inpainting model's first layer has, and those that networks for other models know.
_WITH_MASK, _WITHOUT_MASK = 9, 4


@dataclass(frozen=True, eq=False)
class HostDelta(Delta):
    """What the host merges of a network into one layer, whatever its kind.

    Attributes:
        network: the host's own object, whose multipliers are the strength.
        layer: the live layer; the host's merging runs on its device and in its dtype.
        parts: the host's own parts of the network by the name of the weight they change; of several, each
            changes an equal slice, as those for q, k and v do.
    """

    kind: str
    network: Any
    layer: nn.Module
    parts: Mapping[str, tuple[Any, ...]]

    @property
    def nbytes(self) -> int:
        """Nothing: the tensors are the host's."""
        return 0

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        """Return what the host adds; nothing where it passes the network over."""
        weights = {}
        for name in self.parts:
            before, live = parameters[name], self.layer.get_parameter(name)
            assert before is not None
            weights[name] = before.to(live.device, self._dtype(live))
        try:
            return self._added(weights, parameters, strength)
        except (
            torch.cuda.OutOfMemoryError
        ):  # a RuntimeError as well, but one that says nothing of the network
            raise
        except RuntimeError:
            return {}

    def is_merged(self) -> bool:
        """Say whether the host merges anything here, and does not pass the network over."""
        live = {name: self.layer.get_parameter(name) for name in self.parts}
        biases = {_bias_of(name): self._bias(name) for name in self.parts}
        try:  # shapes alone tell it, at no cost
            on_meta = {
                name: torch.empty_like(weight, device="meta", dtype=self._dtype(weight))
                for name, weight in live.items()
            }
            return bool(self._added(on_meta, {**on_meta, **biases}, 1.0))
        except RuntimeError:  # it does not fit, or it needs values to be computed
            return bool(self.contribution({**live, **biases}, 1.0))

    @torch.no_grad()
    def _added(self, weights: Mapping[str, Tensor], before: Parameters, strength: float) -> dict[str, Tensor]:
        """Return what the host has added by the time that something does not fit.

        Args:
            weights: what is merged into, on the device and in the dtype in which the host does it.
            before: the same and the biases, None for one that the layer has not.

        Raises:
            RuntimeError: the host's merging fails before it has added anything.
        """
        with _at_strength(self.network, strength):
            found = {name: _change(weight, self.parts[name]) for name, weight in weights.items()}
        changes = {name: change for name, (change, _) in found.items()}
        changes |= {_bias_of(name): bias for name, (_, bias) in found.items() if bias is not None}
        added = {}
        for name, change in changes.items():
            shape = change.shape if (own := before.get(name)) is None else own.shape
            try:
                added[name] = torch.broadcast_to(change, shape).float()
            except RuntimeError:
                break
        return added

    def _dtype(self, weight: Tensor) -> torch.dtype:
        """Return what the host merges in; its copy in 16 bits has no gaps as wide as 8 bits have."""
        return weight.dtype if (half := _half_of(self.layer)) is None else half.dtype

    def _bias(self, name: str) -> Tensor | None:
        path, _, last = _bias_of(name).rpartition(".")
        owner = self.layer.get_submodule(path) if path else self.layer
        bias: Tensor | None = getattr(owner, last, None)
        return bias


@dataclass(frozen=True, eq=False)
class ForwardDelta(Additive):
    """What the host adds to a layer's output with its setting `lora_functional`, whatever the kind.

    It is computed from the layer's own weight, in which no network is then: so none depends on another.

    Attributes:
        network: the host's own object, whose multipliers are the strength.
        layer: a linear layer or a convolution.
        part: the host's own part of the network for this layer.
    """

    kind: str
    network: Any
    layer: nn.Module
    part: Any

    @property
    def nbytes(self) -> int:
        """Nothing: the tensors are the host's."""
        return 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return layer_shape(self.layer) or ()

    @property
    def cost(self) -> int:
        """Nothing that could be saved: the host's forward would add it in the other engine, too."""
        return 0

    @torch.no_grad()
    def dense(self) -> Tensor:
        with _at_strength(self.network, 1.0):
            change: Tensor = self.part.calc_updown(self.layer.weight)[0]
        return change.float()

    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        return True  # the host moves and casts

    def to(self, device: torch.device, dtype: torch.dtype) -> ForwardDelta:
        return self

    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        with _at_strength(self.network, 1.0):
            output.add_(self.part.forward(x, torch.zeros_like(output)), alpha=factor)


def pristine(layer: nn.Module) -> Parameters | None:
    """Return a layer's parameters without networks; None where the host does not keep them."""
    if adds_in_forward(layer):
        return None
    merge(layer)
    weight, bias = getattr(layer, "network_weights_backup", None), getattr(layer, "network_bias_backup", None)
    if weight is None:
        return None
    if isinstance(layer, nn.MultiheadAttention):
        return {"in_proj_weight": weight[0], "out_proj.weight": weight[1], "out_proj.bias": bias}
    if (half := _half_of(layer)) is not None:
        return {"weight": half, "bias": getattr(layer, "fp16_bias", None)}
    return {"weight": weight, "bias": bias}


def merge(layer: nn.Module) -> None:
    """Have the host merge its networks into a layer, as it would at the layer's next call."""
    if not adds_in_forward(layer):
        lora_module().network_apply_weights(layer)


def adds_in_forward(layer: nn.Module) -> bool:
    """Say whether the host merges nothing into this layer, but adds to its output."""
    from modules import shared

    return bool(getattr(shared.opts, "lora_functional", False)) and not isinstance(
        layer, nn.MultiheadAttention
    )


def comes_to_product(layer: nn.Module, forward: Callable[..., Any]) -> bool:
    """Say whether a linear layer's forward merges and then multiplies by its weight, and nothing else."""
    host = lora_module()
    if getattr(forward, "__func__", forward) is not getattr(host, "network_Linear_forward", None):
        return is_torch_s(forward)
    return not adds_in_forward(layer) and is_torch_s(host.originals.Linear_forward)


def merges_last_alone(layer: nn.Module) -> bool:
    """Say whether the last network takes the place of those before it in this layer.

    It does where weights are stored in 8 bits beside a copy in 16: each merging starts from the copy.
    """
    return _half_of(layer) is not None


def _half_of(layer: nn.Module) -> Tensor | None:
    half: Tensor | None = getattr(layer, "fp16_weight", None)
    return half


def _change(weight: Tensor, parts: tuple[Any, ...]) -> tuple[Tensor, Tensor | None]:
    """Return what the host adds to a weight, and to the bias beside it."""
    found = [part.calc_updown(piece) for part, piece in zip(parts, weight.chunk(len(parts), 0), strict=True)]
    if len(found) > 1:
        return torch.vstack([change for change, _ in found]), None
    change, bias = found[0]
    if weight.ndim == 4 and weight.shape[1] == _WITH_MASK:
        change = nn.functional.pad(change, (0, 0, 0, 0, 0, _WITH_MASK - _WITHOUT_MASK))
    return change, bias


def _bias_of(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


@contextmanager
def _at_strength(network: Any, strength: float) -> Iterator[None]:
    """Have the host's own object of a network at another strength for the block."""
    before = network.te_multiplier, network.unet_multiplier
    try:
        network.te_multiplier = network.unet_multiplier = strength
        yield
    finally:
        network.te_multiplier, network.unet_multiplier = before
