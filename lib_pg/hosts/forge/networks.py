"""The networks that Forge and its relatives have active, as deltas on live layers.

The hosts keep a network as patches of weights by name. Forge keeps them by file, the older ones by weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Additive, LowRank, Part, Parts
from lib_pg.hosts.webui.lora_extension import loaded_networks, lora_module, metadata_of, name_of, notes_on
from lib_pg.networks import Network
from lib_pg.weak_branch import layer_shape


@dataclass(frozen=True)
class Patch:
    """One patch of one weight.

    Attributes:
        key: name of the weight in the patched model.
        strength: the network's multiplier.
        value: what is added at strength 1, as the host has it.
        offset: (axis, start, length) of the part of the weight that is meant; None for all of it.
        function: what the host applies to dW before it adds it; None for nothing.
    """

    key: str
    strength: float
    value: Any
    weight_factor: float = 1.0
    offset: tuple[int, int, int] | None = None
    function: Any = None


def active_networks(model: Any, own_ratios: Mapping[str, float]) -> tuple[list[Network], list[str]]:
    """Return what is active, and sentences on what of it cannot be weakened.

    Args:
        model: the host's model; of its patches only those of networks in the prompt are read.
        own_ratios: omega of networks that the prompt gives one, by the name used there.
    """
    objects = model.forge_objects_after_applying_lora
    loaded = loaded_networks()
    parts: list[dict[str, ActiveNetwork]] = [{} for _ in loaded]
    notes = []
    for component, patcher in (("unet", objects.unet), ("te", objects.clip.patcher)):
        layers = dict(patcher.model.named_modules())
        for index, patches in enumerate(_patches_of(patcher, loaded)):
            name = name_of(loaded[index])
            if patches:
                deltas, skipped = _deltas(patches, layers)
                parts[index][component] = ActiveNetwork(name, deltas, float(patches[0].strength))
                notes += notes_on(name, skipped)
    networks = [
        Network(name_of(found), part, own_ratios.get(name_of(found)), metadata_of(found))
        for found, part in zip(loaded, parts, strict=True)
    ]
    return networks, list(dict.fromkeys(notes))


def _patches_of(patcher: Any, loaded: Sequence[Any]) -> list[list[Patch]]:
    """Return the patches that each active network has on a model, none where it has none."""
    by_file = getattr(patcher, "lora_patches", None)
    return _by_weight(patcher.patches, loaded) if by_file is None else _by_file(by_file, loaded)


def _by_file(
    lora_patches: Mapping[tuple[Any, ...], Mapping[str, Iterable[Sequence[Any]]]], loaded: Sequence[Any]
) -> list[list[Patch]]:
    """Forge: {(file, strength, strength of the weight, online): {weight: [patch, ...]}}."""
    waiting = list(lora_patches.items())
    found: list[list[Patch]] = []
    for network in loaded:
        match = next((item for item in waiting if item[0][0] == network.network_on_disk.filename), None)
        if match is not None:  # the same file again has an entry of its own
            waiting.remove(match)
        found.append(
            [Patch(key, *patch) for key, all_ in match[1].items() for patch in all_] if match else []
        )
    return found


def _by_weight(patches: Mapping[str, Sequence[Sequence[Any]]], loaded: Sequence[Any]) -> list[list[Patch]]:
    """reForge and Classic: {weight: [patch, ...]}, whose tensors tell the file that they came from.

    Where none does, because the host has converted them, the order tells it, as far as every network has a
    patch of the weight. What cannot be told is left as it is.
    """
    owners, mark = _owners(loaded)
    converted = not any(mark(t) in owners for all_ in patches.values() for p in all_ for t in _tensors(p[1]))
    found: list[list[Patch]] = [[] for _ in loaded]
    for key, all_ in patches.items():
        seen: Counter[Any] = Counter()
        for position, patch in enumerate(all_):
            index = position if converted and len(all_) == len(loaded) else None
            for known in filter(owners.__contains__, map(mark, _tensors(patch[1]))):
                of_file = owners[known]  # several where the prompt names a file again
                index = of_file[min(seen[known], len(of_file) - 1)]
                seen[known] += 1
                break
            if index is not None:
                found[index].append(Patch(key, *patch))
    return found


def _owners(loaded: Sequence[Any]) -> tuple[dict[Any, list[int]], Callable[[Tensor], Any]]:
    """Return which networks each tensor of their files belongs to, by a mark, and what makes the mark."""
    if not loaded:
        return {}, id
    read = lora_module().load_lora_state_dict
    files = {network.network_on_disk.filename for network in loaded}
    # The host's own cache holds the very tensors; where it is too small, they have been read again since.
    mark: Callable[[Tensor], Any] = id if len(files) <= read.cache_info().maxsize else _fingerprint
    owners: dict[Any, list[int]] = {}
    for index, network in enumerate(loaded):
        for tensor in read(network.network_on_disk.filename).values():
            owners.setdefault(mark(tensor), []).append(index)
    return owners, mark


def _fingerprint(tensor: Tensor) -> Any:
    flat = tensor.detach().reshape(-1)
    return tuple(tensor.shape), tuple(flat[:16].tolist()), tuple(flat[-16:].tolist())


def _tensors(value: Any) -> Iterator[Tensor]:
    _, weights = _kind_and_weights(value)
    return (item for item in weights if isinstance(item, Tensor))


def _kind_and_weights(value: Any) -> tuple[str, Sequence[Any]]:
    """Return a patch's kind and its tensors: hosts have pairs, or objects with `name` and `weights`."""
    weights = getattr(value, "weights", None)
    if weights is not None:
        return str(value.name), weights
    return ("diff", value) if len(value) == 1 else (str(value[0]), value[1])


def _deltas(
    patches: Sequence[Patch], layers: Mapping[str, nn.Module]
) -> tuple[dict[nn.Module, Additive], dict[str, int]]:
    """Return the deltas by layer, and how many patches of which kinds are left out."""
    whole: dict[nn.Module, Additive] = {}
    parts: dict[nn.Module, list[Part]] = {}
    skipped: dict[str, int] = {}
    for patch in patches:
        name, _, parameter = patch.key.rpartition(".")
        layer = layers.get(name)
        delta = _low_rank(patch, layer) if parameter == "weight" else parameter
        if isinstance(delta, str):
            skipped[delta] = skipped.get(delta, 0) + 1
        elif layer is not None:
            if patch.offset is None:
                whole[layer] = delta
            else:
                parts.setdefault(layer, []).append(Part(delta, patch.offset[0], patch.offset[1]))
    for layer, of_layer in parts.items():
        if layer in whole:
            of_layer.append(Part(whole[layer], 0, 0))
        whole[layer] = Parts(layer_shape(layer) or (), tuple(of_layer))
    return whole, skipped


def _low_rank(patch: Patch, layer: nn.Module | None) -> LowRank | str:
    """Return a patch's delta at strength 1, or what kind it is instead."""
    kind, weights = _kind_and_weights(patch.value)
    shape = None if layer is None else layer_shape(layer)
    if kind != "lora":
        return {"diff": "full", "loha": "LoHa", "lokr": "LoKr", "glora": "GLoRA"}.get(kind, kind)
    if shape is None:
        return f"LoRA on {type(layer).__name__}"
    up, down, alpha, core, dora, *_ = (*weights, None, None)
    if dora is not None:
        return "DoRA"
    if patch.weight_factor != 1.0:
        return "LoRA that scales the weight, too"
    if patch.offset is not None:
        shape = tuple(patch.offset[2] if axis == patch.offset[0] else size for axis, size in enumerate(shape))
    rank = down.shape[0]
    scale = 1.0 if alpha is None else float(alpha) / rank
    wide = up.flatten(1).contiguous()
    if patch.function is not None:
        wide = _reordered(wide, down.flatten(1), patch.function)
        if wide is None:
            return "LoRA with a function of the host's"
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
