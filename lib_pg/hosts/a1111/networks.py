"""The networks that AUTOMATIC1111's Lora extension has active, as deltas on live layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from lib_pg.deltas import ActiveNetwork, Delta, LowRank
from lib_pg.hosts.a1111.merging import ForwardDelta, HostDelta, adds_in_forward, merges_last_alone
from lib_pg.hosts.webui.lora_extension import loaded_networks, metadata_of, name_of, notes_on
from lib_pg.networks import Network
from lib_pg.weak_branch import layer_shape

_UNET = "diffusion_model_"
# What users call the host's kinds of parts.
_KINDS = {
    "Lora": "LoRA",
    "Hada": "LoHa",
    "Lokr": "LoKr",
    "Ia3": "IA3",
    "Full": "full difference",
    "Norm": "norm",
    "GLora": "GLoRA",
}
# Networks have parts for q, k, v and the output of a fused attention, which is one layer of the host's.
_OF_ATTENTION = re.compile(r"(.+)_(?:q|k|v|out)_proj")
# The kinds of layers that the host merges into.
_MERGED = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.MultiheadAttention)


def active_networks(
    layers: Mapping[str, nn.Module], own_ratios: Mapping[str, float]
) -> tuple[list[Network], list[str]]:
    """Return what is active, and sentences on what of it cannot be weakened.

    Args:
        layers: the host's mapping of its layer names to live layers.
        own_ratios: omega of networks that the prompt gives one, by the name used there.
    """
    networks, notes = [], []
    taken: dict[nn.Module, Any] = {}  # layers that hold the last of their networks alone, and which it is
    for loaded in reversed(loaded_networks()):
        network, skipped, hidden_by = _network(loaded, layers, own_ratios, taken)
        on_it = notes_on(network.name, skipped)
        if not network.parts and hidden_by is loaded:
            continue  # named again, and the later mention is all that there is of it
        if not network.parts and hidden_by is not None:
            on_it = [
                f"{network.name} is not in the picture: with weights in FP8 the host keeps "
                f"{name_of(hidden_by)} alone, which changes the same layers; switch FP8 off to have both"
            ]
        if not network.parts and on_it:
            network = replace(network, reason=". ".join(on_it))
        else:
            notes += on_it
        networks.append(network)
    return networks[::-1], notes[::-1]


def unet_strength(loaded: Any) -> float:
    """Return the multiplier that a network has in the U-Net now.

    Asked of one of its parts, as the host asks them all: extensions that change it in steps answer there.
    """
    part = next((part for key, part in loaded.modules.items() if key.startswith(_UNET)), None)
    return float(loaded.unet_multiplier if part is None else part.multiplier())


def text_strength(loaded: Any) -> float:
    """Return the multiplier that a network has in the text encoders now."""
    part = next((part for key, part in loaded.modules.items() if not key.startswith(_UNET)), None)
    return float(loaded.te_multiplier if part is None else part.multiplier())


def _network(
    loaded: Any, layers: Mapping[str, nn.Module], own_ratios: Mapping[str, float], taken: dict[nn.Module, Any]
) -> tuple[Network, Counter[str], Any]:
    """Return a network, its layers that cannot be weakened by what they are, and what hides a layer of it."""
    hidden_by = None
    name, parts, skipped = name_of(loaded), {}, Counter[str]()
    in_unet: dict[nn.Module, Delta] = {}
    in_text: dict[nn.Module, Delta] = {}
    for key, layer, of_layer in _merged_parts(loaded.modules, layers):
        delta = _delta(loaded, layer, of_layer)
        if isinstance(delta, str):
            skipped[delta] += 1
        elif delta is not None and layer in taken:
            hidden_by = taken[layer]
        elif delta is not None:
            (in_unet if key.startswith(_UNET) else in_text)[layer] = delta
            if merges_last_alone(layer):
                taken[layer] = loaded
    if in_unet:
        parts["unet"] = ActiveNetwork(name, in_unet, float(loaded.unet_multiplier))
    if in_text:
        parts["te"] = ActiveNetwork(name, in_text, float(loaded.te_multiplier))
    return Network(name, parts, own_ratios.get(name), metadata_of(loaded)), skipped, hidden_by


def _merged_parts(
    modules: Mapping[str, Any], layers: Mapping[str, nn.Module]
) -> Iterator[tuple[str, nn.Module, dict[str, tuple[Any, ...]]]]:
    """Yield a network's layers as the host merges it: name, live layer, parts by the weight they change.

    Args:
        modules: the host's own parts of a network, by the names of their layers. Those for a model other than
            the one in use have layers that are not there.
    """
    for key in dict.fromkeys(_layer_of(name, layers) for name in modules):
        layer = layers.get(key)
        q, k, v, out = (modules.get(f"{key}_{letter}_proj") for letter in ("q", "k", "v", "out"))
        if not isinstance(layer, _MERGED):
            continue
        if isinstance(layer, nn.MultiheadAttention):
            if q and k and v and out:  # or else the host merges none of them
                yield key, layer, {"in_proj_weight": (q, k, v), "out_proj.weight": (out,)}
        elif key in modules:
            yield key, layer, {"weight": (modules[key],)}
        elif q and k and v:
            yield key, layer, {"weight": (q, k, v)}


def _layer_of(name: str, layers: Mapping[str, nn.Module]) -> str:
    """Return the name of the layer that the host merges a part into."""
    found = _OF_ATTENTION.fullmatch(name)
    return found[1] if found and _is_fused(layers.get(found[1])) else name


def _is_fused(layer: nn.Module | None) -> bool:
    return isinstance(layer, nn.MultiheadAttention) or type(layer).__name__ == "QkvLinear"


def _delta(loaded: Any, layer: nn.Module, parts: Mapping[str, tuple[Any, ...]]) -> Delta | str | None:
    """Return a layer's delta; the kind of network where it cannot be weakened; None where nothing is merged.

    Low-rank ones are taken as what they are, which is faster, all others by the host's own merging.
    """
    part, *others = [part for of_weight in parts.values() for part in of_weight]
    kind = _kind_of(part)
    delta = None if others else _low_rank(part, layer)
    if adds_in_forward(layer):
        if layer_shape(layer) is None:
            return f"its {kind} in normalisation layers, while the host's setting lora_functional is on,"
        # The host's forward knows neither Tucker cores nor a lower rank.
        plain = delta is not None and part.mid_model is None and loaded.dyn_dim is None
        return delta if plain else ForwardDelta(kind, loaded, layer, part)
    if delta is not None and delta.weight_shape == layer_shape(layer):
        return delta
    merging = HostDelta(kind, loaded, layer, parts)
    return merging if merging.is_merged() else None


def _kind_of(any_part: Any) -> str:
    """Return what users call the kind of a host's part."""
    name = type(any_part).__name__.removeprefix("NetworkModule")
    kind = "BOFT" if getattr(any_part, "is_boft", False) else _KINDS.get(name, name)
    if getattr(any_part, "dora_scale", None) is not None:
        return "DoRA" if kind == "LoRA" else f"{kind} with DoRA"
    return kind


def _low_rank(part: Any, layer: nn.Module) -> LowRank | None:
    """Return a layer's delta at multiplier 1 where it is a plain LoRA or LoCon."""
    down, up = getattr(part, "down_model", None), getattr(part, "up_model", None)
    if down is None or up is None or part.dora_scale is not None or part.bias is not None:
        return None
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return None
    narrow = down.weight.detach()
    wide = up.weight.detach().flatten(1)
    if part.mid_model is None and part.network.dyn_dim is not None:
        narrow, wide = narrow[: part.network.dyn_dim], wide[:, : part.network.dyn_dim]
    delta = LowRank(narrow.contiguous(), wide.contiguous(), float(part.calc_scale()))
    if part.mid_model is not None:
        delta = delta.with_core(part.mid_model.weight.detach())
    if isinstance(layer, nn.Conv2d) and layer.in_channels == 9 and delta.down.shape[1] == 4:
        # The first layer of an inpainting model: the host merges zeros for mask and masked picture.
        padded = nn.functional.pad(delta.down, (0, 0, 0, 0, 0, 5))
        delta = LowRank(padded, delta.up, delta.scale)
    return delta
