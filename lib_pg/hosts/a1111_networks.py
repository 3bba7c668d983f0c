"""The networks that AUTOMATIC1111's Lora extension has active, as deltas on the live layers of its U-Net."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.networks import Network

_UNET = "diffusion_model_"


def lora_module() -> Any | None:
    """Return the module of the host's Lora extension, or None where that is switched off."""
    return sys.modules.get("networks")


def loaded_networks() -> Sequence[Any]:
    """Return the host's own objects of the active networks, in the order of the prompt."""
    module = lora_module()
    return module.loaded_networks if module is not None else ()


def active_networks(
    layers: Mapping[str, nn.Module], own_ratios: Mapping[str, float]
) -> tuple[list[Network], list[str]]:
    """Return what is active, and sentences on what of it cannot be weakened.

    Args:
        layers: the host's mapping of its layer names to live layers.
        own_ratios: omega of networks that the prompt gives one, by the name used there.
    """
    networks, notes = [], []
    for loaded in loaded_networks():
        network, skipped = _network(loaded, layers, own_ratios)
        networks.append(network)
        notes += [
            f"{loaded.name}: {count} layers of kind {kind} cannot be weakened yet and stay as they are"
            for kind, count in skipped.items()
        ]
    return networks, notes


def _network(
    loaded: Any, layers: Mapping[str, nn.Module], own_ratios: Mapping[str, float]
) -> tuple[Network, dict[str, int]]:
    in_unet: dict[nn.Module, LowRank] = {}
    in_text: dict[nn.Module, LowRank] = {}
    skipped: dict[str, int] = {}
    has_text = hooks_reach_text = False
    for key, part in loaded.modules.items():
        layer = layers.get(key)
        delta = "gone" if layer is None else _low_rank(part, layer)
        if not key.startswith(_UNET):
            hooks_reach_text = isinstance(delta, LowRank) and (hooks_reach_text or not has_text)
            has_text = True
            if layer is not None and isinstance(delta, LowRank):
                in_text[layer] = delta
        elif layer is None:  # the network was matched to another model than the one in use
            continue
        elif isinstance(delta, LowRank):
            in_unet[layer] = delta
        else:
            skipped[delta] = skipped.get(delta, 0) + 1
    name = loaded.mentioned_name or loaded.name
    parts = {}
    if in_unet:
        parts["unet"] = ActiveNetwork(name, in_unet, float(loaded.unet_multiplier))
    if has_text:  # without deltas the host itself has to scale this part, of whatever kind it is
        parts["te"] = ActiveNetwork(name, in_text if hooks_reach_text else {}, float(loaded.te_multiplier))
    return Network(name, parts, own_ratios.get(name), _metadata(loaded)), skipped


def _low_rank(part: Any, layer: nn.Module) -> LowRank | str:
    """Return a layer's delta at multiplier 1, or the kind of network that it is instead."""
    down, up = getattr(part, "down_model", None), getattr(part, "up_model", None)
    if down is None or up is None:
        return str(type(part).__name__).removeprefix("NetworkModule")
    if part.dora_scale is not None:
        return "DoRA"
    if part.bias is not None:
        return "LoRA with a bias"
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return f"LoRA on {type(layer).__name__}"
    narrow = down.weight.detach()
    wide = up.weight.detach().flatten(1)
    mid = getattr(part, "mid_model", None)
    if mid is None and part.network.dyn_dim is not None:
        narrow, wide = narrow[: part.network.dyn_dim], wide[:, : part.network.dyn_dim]
    delta = LowRank(narrow.contiguous(), wide.contiguous(), float(part.calc_scale()))
    if mid is not None:
        delta = delta.with_core(mid.weight.detach())
    if isinstance(layer, nn.Conv2d) and layer.in_channels == 9 and delta.down.shape[1] == 4:
        # The first layer of an inpainting model: the host merges zeros for mask and masked picture.
        padded = nn.functional.pad(delta.down, (0, 0, 0, 0, 0, 5))
        delta = LowRank(padded, delta.up, delta.scale)
    return delta


def _metadata(loaded: Any) -> dict[str, str]:
    metadata = getattr(loaded.network_on_disk, "metadata", None) or {}
    return {str(key): value for key, value in metadata.items() if isinstance(value, str)}
