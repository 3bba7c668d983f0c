"""The networks that Forge and its relatives have active, as deltas on live layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Additive, Delta, LowRank, Part, Parts
from lib_pg.hosts.forge.merging import HostDelta, Merge, merge_of
from lib_pg.hosts.forge.patches import Patch, patches_of
from lib_pg.hosts.webui.lora_extension import loaded_networks, metadata_of, name_of, notes_on
from lib_pg.networks import Network
from lib_pg.weak_branch import layer_shape


def active_networks(model: Any, own_ratios: Mapping[str, float]) -> tuple[list[Network], list[str]]:
    """Return what is active, and sentences on what of it cannot be weakened.

    Args:
        model: the host's model; of its patches only those of networks in the prompt are read.
        own_ratios: omega of networks that the prompt gives one, by the name used there.
    """
    objects = model.forge_objects_after_applying_lora
    loaded = loaded_networks()
    parts: list[dict[str, ActiveNetwork]] = [{} for _ in loaded]
    notes: list[list[str]] = [[] for _ in loaded]
    for component, patcher in (("unet", objects.unet), ("te", objects.clip.patcher)):
        layers = dict(patcher.model.named_modules())
        for index, patches in enumerate(patches_of(patcher).own):
            name = name_of(loaded[index])
            deltas, skipped = _deltas(patches, layers, merge_of(patcher))
            notes[index] += notes_on(name, skipped)
            if not patches and component == "unet" and (bypass := _bypass(patcher)):
                notes[index].append(
                    f"{name} is added by the host's {bypass} model itself, where it cannot be weakened, so "
                    "both branches have all of it; load the model in another format to weaken it"
                )
            if deltas:
                parts[index][component] = ActiveNetwork(name, deltas, float(patches[0].strength))
    networks = []
    whole: set[str] = set()
    for found, part, on_it in zip(loaded, parts, notes, strict=True):
        name, file = name_of(found), found.network_on_disk.filename
        if not part and file in whole:
            continue  # named again at the same strength: the host has it once
        whole |= {file} if part else set()
        reason = "" if part else ". ".join(on_it) or _left_out(name)
        networks.append(Network(name, part, own_ratios.get(name), metadata_of(found), reason=reason))
    on_parts = [note for part, on_it in zip(parts, notes, strict=True) if part for note in on_it]
    return networks, list(dict.fromkeys(on_parts))


def _left_out(name: str) -> str:
    """Say why a network has no patches; the hosts do not tell, and some leave out those at strength 0."""
    return (
        f"nothing of {name} can be weakened here; it may be made for another model, or have the strength 0, "
        f"at which this host may leave it out: a small one, such as <lora:{name}:0.001>, keeps it"
    )


def _bypass(patcher: Any) -> str:
    """Return which quantised model applies networks by itself; empty where the weights have them."""
    if getattr(getattr(patcher.model, "diffusion_model", None), "loras", None):
        return "Nunchaku"
    options = getattr(patcher, "model_options", {}).get("transformer_options", {})
    return "Int8" if options.get("dynamic_loras") else ""


def _deltas(
    patches: Sequence[Patch], layers: Mapping[str, nn.Module], merge: Merge | None
) -> tuple[dict[nn.Module, Delta], Counter[str]]:
    """Return one network's deltas by layer, and how many layers of which kinds are left out."""
    by_layer: dict[str, list[Patch]] = {}
    for patch in patches:
        by_layer.setdefault(patch.layer, []).append(patch)
    deltas: dict[nn.Module, Delta] = {}
    skipped: Counter[str] = Counter()
    for name, of_layer in by_layer.items():
        layer = layers.get(name)
        delta = None if layer is None else _delta(of_layer, layer, merge)
        if isinstance(delta, str):
            skipped[delta] += 1
        elif layer is not None and delta is not None:
            deltas[layer] = delta
    return deltas, skipped


def _delta(patches: Sequence[Patch], layer: nn.Module, merge: Merge | None) -> Delta | str:
    """Return a layer's delta, or what it is and where, which cannot be weakened.

    Plain LoRA is taken as what it is, which is faster, and all else by the host's own merging.
    """
    if (delta := _additive(patches, layer)) is not None:
        return delta
    kind = " and ".join(dict.fromkeys(patch.kind for patch in patches))
    if merge is None:
        return f"its {kind}"
    if any(patch.online for patch in patches):
        return f"its {kind}, which the host adds in every call to quantised weights,"
    if not _are_plain(layer, patches):
        return f"its {kind} on quantised weights"
    if next(layer.children(), None) is not None:
        return f"its {kind} on parameters of a {type(layer).__name__}"
    by_parameter: dict[str, list[Patch]] = {}
    for patch in patches:
        by_parameter.setdefault(patch.parameter, []).append(patch)
    return HostDelta(by_parameter, merge)


def _are_plain(layer: nn.Module, patches: Sequence[Patch]) -> bool:
    """Say whether the weights are numbers of 16 or 32 bits, not packed ones."""
    weights = [layer._parameters.get(patch.parameter) for patch in patches]
    return all(
        weight is not None
        and weight.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and getattr(weight, "gguf_cls", None) is None
        for weight in weights
    )


def _additive(patches: Sequence[Patch], layer: nn.Module) -> Additive | None:
    """Return plain LoRAs on a layer's weight, one on all of it or several on parts; None for all else."""
    whole: list[LowRank] = []
    parts: list[Part] = []
    for patch in patches:
        delta = _low_rank(patch, layer) if patch.parameter == "weight" else None
        if delta is None:
            return None
        if patch.offset is None:
            whole.append(delta)
        else:
            parts.append(Part(delta, patch.offset[0], patch.offset[1]))
    if len(whole) == 1 and not parts:
        return whole[0]
    shape = layer_shape(layer) or ()
    if len(shape) != 2:
        return None
    return Parts(shape, tuple([*parts, *(Part(delta, 0, 0) for delta in whole)]))


def _low_rank(patch: Patch, layer: nn.Module) -> LowRank | None:
    """Return a patch's delta at strength 1 where it is a plain LoRA that fits."""
    kind, weights = patch.content
    shape = layer_shape(layer)
    if kind != "lora" or shape is None or patch.is_dora or patch.weight_factor != 1.0:
        return None
    up, down, alpha, core, *rest = (*weights, None)
    if len(rest) > 1 and rest[1] is not None:  # the host makes the weight larger for it
        return None
    if patch.offset is not None:
        shape = tuple(patch.offset[2] if axis == patch.offset[0] else size for axis, size in enumerate(shape))
    rank = down.shape[0]
    scale = 1.0 if alpha is None else float(alpha) / rank
    wide = up.flatten(1).contiguous()
    if patch.function is not None:
        wide = _reordered(wide, down.flatten(1), patch.function)
        if wide is None:
            return None
    if core is not None:
        return LowRank(down, wide, scale).with_core(core)
    return LowRank(down.reshape(rank, *shape[1:]).contiguous(), wide, scale)


def _reordered(wide: Tensor, narrow: Tensor, function: Any) -> Tensor | None:
    """Apply a function of dW to its first factor; None where that is not the same."""
    columns = narrow[:, :2].to(wide)
    ours: Tensor = function(wide)
    same = ours.shape == wide.shape and torch.allclose(
        ours.float() @ columns.float(), function(wide.float() @ columns.float()), rtol=1e-4, atol=1e-5
    )
    return ours.contiguous() if same else None
