"""The networks that AUTOMATIC1111's Lora extension has active, as deltas on the live layers of its U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.hosts.webui.lora_extension import loaded_networks, metadata_of, name_of, notes_on
from lib_pg.networks import Network
from lib_pg.weak_branch import layer_shape

_UNET = "diffusion_model_"


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
        notes += notes_on(network.name, skipped)
    return networks, notes


def _network(
    loaded: Any, layers: Mapping[str, nn.Module], own_ratios: Mapping[str, float]
) -> tuple[Network, dict[str, int]]:
    name, parts = name_of(loaded), {}
    # A network that was matched to another model than the one in use has layers that are not there.
    of_unet = {key: part for key, part in loaded.modules.items() if key.startswith(_UNET) and key in layers}
    in_unet, skipped = _deltas(of_unet, layers)
    if in_unet:
        parts["unet"] = ActiveNetwork(name, in_unet, float(loaded.unet_multiplier))
    # Parts of OpenCLIP's attention are no layers of their own: no hook reaches them.
    of_text = {key: part for key, part in loaded.modules.items() if not key.startswith(_UNET)}
    in_text, unreached = _deltas(of_text, layers)
    if in_text or unreached:  # without deltas the host itself has to scale this part, of whatever kind it is
        parts["te"] = ActiveNetwork(name, {} if unreached else in_text, float(loaded.te_multiplier))
    return Network(name, parts, own_ratios.get(name), metadata_of(loaded)), skipped


def _deltas(
    modules: Mapping[str, Any], layers: Mapping[str, nn.Module]
) -> tuple[dict[nn.Module, LowRank], dict[str, int]]:
    """Return the deltas by layer; of what is left, how many a kind.

    Args:
        modules: the host's own parts of a network, by the names of their layers.
    """
    deltas: dict[nn.Module, LowRank] = {}
    skipped: dict[str, int] = {}
    for key, part in modules.items():
        layer = layers.get(key)
        delta = _low_rank(part, layer)
        if isinstance(delta, str):
            skipped[delta] = skipped.get(delta, 0) + 1
        elif layer is not None:
            deltas[layer] = delta
    return deltas, skipped


def _low_rank(part: Any, layer: nn.Module | None) -> LowRank | str:
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
    # The host leaves out what does not fit, as in a network for another kind of model.
    return delta if delta.weight_shape == layer_shape(layer) else "LoRA of another shape"
