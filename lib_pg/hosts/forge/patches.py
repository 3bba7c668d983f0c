"""Forge and its relatives keep a network as patches of weights by name: which patch is whose.

Forge keeps them by file, its relatives by weight, and some have places for both: what is not empty counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lib_pg.hosts.webui.lora_extension import loaded_networks, lora_module

_NAMES = {
    "lora": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "glora": "GLoRA",
    "oft": "OFT",
    "boft": "BOFT",
    "diff": "full difference",
    "set": "replaced weight",
}
# Where the weights of a kind have DoRA's scale.
_DORA_AT = {"lora": 4, "loha": 7, "lokr": 8, "glora": 5, "oft": 3, "boft": 3}


@dataclass(frozen=True)
class Patch:
    """One patch of one weight.

    Attributes:
        key: name of the weight in the patched model.
        strength: the network's multiplier.
        value: what is added at strength 1, as the host has it.
        weight_factor: what the host multiplies the weight below with.
        offset: (axis, start, length) of the part of the weight that is meant; None for all of it.
        function: what the host applies to dW before it adds it; None for nothing.
        online: whether the host adds it in every call of the layer, its weight being left as it is.
    """

    key: str
    strength: float
    value: Any
    weight_factor: float = 1.0
    offset: tuple[int, int, int] | None = None
    function: Any = None
    online: bool = False

    @property
    def layer(self) -> str:
        """Name of the module that has the weight."""
        return self.key.rpartition(".")[0]

    @property
    def parameter(self) -> str:
        """Name of the weight in that module."""
        return self.key.rpartition(".")[2]

    @property
    def content(self) -> tuple[str, Sequence[Any]]:
        """The host's name of the kind, and its tensors and numbers.

        Hosts have pairs of these, or objects with `name` and `weights`; a lone tensor is a difference.
        """
        weights = getattr(self.value, "weights", None)
        if weights is not None:
            return str(getattr(self.value, "name", type(self.value).__name__)), tuple(weights)
        if not isinstance(self.value, (tuple, list)) or not self.value:
            return type(self.value).__name__, ()
        if len(self.value) == 1:
            return "diff", self.value
        return (self.value[0], self.value[1]) if isinstance(self.value[0], str) else ("diff", self.value[:1])

    @property
    def is_dora(self) -> bool:
        kind, weights = self.content
        at = _DORA_AT.get(kind, len(weights))
        return len(weights) > at and weights[at] is not None

    @property
    def kind(self) -> str:
        """What users call it, such as LoHa."""
        name = self.content[0]
        name = _NAMES.get(name, name)
        if not self.is_dora:
            return name
        return "DoRA" if name == "LoRA" else f"{name} with DoRA"

    @property
    def tensors(self) -> Iterator[Tensor]:
        return (item for item in self.content[1] if isinstance(item, Tensor))

    def at(self, strength: float) -> tuple[Any, ...]:
        """Return it as the host merges it, with another multiplier."""
        return (strength, self.value, self.weight_factor, self.offset, self.function)


@dataclass(frozen=True)
class Patches:
    """The patches of one model.

    Attributes:
        own: those of each network that the prompt has active, in its order; empty where it has none here.
        others: those of other extensions, and what cannot be told, by weight.
    """

    own: list[list[Patch]]
    others: dict[str, list[Patch]]


def patches_of(patcher: Any) -> Patches:
    """Return the patches that are on a host's model."""
    loaded = loaded_networks()
    by_file, by_weight = getattr(patcher, "lora_patches", None), getattr(patcher, "patches", None)
    found = Patches([[] for _ in loaded], {})
    _add_by_file(found, by_file or {}, loaded)
    _add_by_weight(found, by_weight or {}, loaded)
    return found


def _add_by_file(
    found: Patches,
    lora_patches: Mapping[tuple[Any, ...], Mapping[Any, Iterable[Sequence[Any]]]],
    loaded: Sequence[Any],
) -> None:
    """Forge: {(file, strength, strength of the weight, online): {weight: [patch, ...]}}."""
    waiting = list(lora_patches.items())
    for index, network in enumerate(loaded):
        match = next((item for item in waiting if item[0][0] == network.network_on_disk.filename), None)
        if match is not None:  # the same file again has an entry of its own
            waiting.remove(match)
            found.own[index] += [
                replace(_patch(key, patch), online=_is_online(match[0]))
                for key, all_ in match[1].items()
                for patch in all_
            ]
    for name, patches in waiting:
        for key, all_ in patches.items():
            for patch in all_:
                read = replace(_patch(key, patch), online=_is_online(name))
                found.others.setdefault(read.key, []).append(read)


def _patch(key: Any, values: Sequence[Any]) -> Patch:
    """Return a patch as a host has it; a part of a weight may be named with it: (name, offset, function)."""
    if isinstance(key, str):
        return Patch(key, *values)
    name, offset, *function = key
    read = Patch(name, *values)
    return replace(read, offset=read.offset or offset, function=read.function or next(iter(function), None))


def _is_online(name: tuple[Any, ...]) -> bool:
    return len(name) > 3 and bool(name[3])


def _add_by_weight(
    found: Patches, patches: Mapping[Any, Sequence[Sequence[Any]]], loaded: Sequence[Any]
) -> None:
    """The relatives: {weight: [patch, ...]}, whose tensors tell the file that they came from.

    Where none does, because the host has converted them, the order tells it, as far as every network has a
    patch of the weight. What cannot be told is left as it is.
    """
    if not patches:
        return
    read: dict[str, list[Patch]] = {}
    for name, rows in patches.items():
        for each in rows:
            own = _patch(name, each)
            read.setdefault(own.key, []).append(own)
    owners, mark = _owners(loaded)
    converted = not any(mark(t) in owners for all_ in read.values() for patch in all_ for t in patch.tensors)
    for key, all_ in read.items():
        seen: Counter[Any] = Counter()
        for position, patch in enumerate(all_):
            index = position if converted and len(all_) == len(loaded) else None
            for known in filter(owners.__contains__, map(mark, patch.tensors)):
                of_file = owners[known]  # several where the prompt names a file again
                index = of_file[min(seen[known], len(of_file) - 1)]
                seen[known] += 1
                break
            if index is None:
                found.others.setdefault(key, []).append(patch)
            else:
                found.own[index].append(patch)


def _owners(loaded: Sequence[Any]) -> tuple[dict[Any, list[int]], Callable[[Tensor], Any]]:
    """Return which networks each tensor of their files belongs to, by a mark, and what makes the mark."""
    read = getattr(lora_module(), "load_lora_state_dict", None)
    if not loaded or read is None:
        return {}, id
    files = {network.network_on_disk.filename for network in loaded}
    # The host's own cache holds the very tensors; where it is too small or there is none, they are others.
    kept = read.cache_info().maxsize if hasattr(read, "cache_info") else 0
    mark: Callable[[Tensor], Any] = id if len(files) <= kept else _fingerprint
    owners: dict[Any, list[int]] = {}
    for index, network in enumerate(loaded):
        for tensor in read(network.network_on_disk.filename).values():
            owners.setdefault(mark(tensor), []).append(index)
    return owners, mark


def _fingerprint(tensor: Tensor) -> Any:
    flat = tensor.detach().reshape(-1)
    return tuple(tensor.shape), tuple(flat[:16].tolist()), tuple(flat[-16:].tolist())
