"""The hosts' own merging of one layer, for kinds of networks that we need not know."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib_pg.deltas import Delta, Parameters
from lib_pg.hosts.forge.patches import Patch, patches_of
from lib_pg.weak_branch import is_torch_s

# Merges patches, as the host has them, into a weight (float32, left as it is) of a name.
Merge: TypeAlias = "Callable[[Sequence[tuple[Any, ...]], Tensor, str], Tensor]"

# Where reForge and the newest Neo have a function that merges; the older ones have a method of the patcher.
_FUNCTIONS = ("ldm_patched.modules.lora", "comfy.lora")

# Where the hosts have their linear layer, what its forward is called there, and which of its marks say that
# a call does more than to multiply.
_PLAIN = (
    ("backend.operations", "ForgeOperations.Linear.forward"),
    ("ldm_patched.modules.ops", "disable_weight_init.Linear.forward"),
)
_CASTS = ("parameters_manual_cast", "ldm_patched_cast_weights")
_BESIDE = ("forge_online_loras", "weight_function", "bias_function")


@dataclass(frozen=True, eq=False)
class HostDelta(Delta):
    """What the host's merging of a network adds to one layer.

    Attributes:
        patches: the network's patches of the layer, by the parameter's name, in the host's order.
        merge: the host's.
    """

    patches: Mapping[str, Sequence[Patch]]
    merge: Merge

    @property
    def kind(self) -> str:  # type: ignore[override]
        kinds = [patch.kind for patches in self.patches.values() for patch in patches]
        return " and ".join(dict.fromkeys(kinds))

    @property
    def nbytes(self) -> int:
        all_ = (patch for patches in self.patches.values() for patch in patches)
        return sum(tensor.nbytes for patch in all_ for tensor in patch.tensors)

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        added = {}
        for name, patches in self.patches.items():
            before = parameters.get(name)
            if before is not None:
                after = self.merge([patch.at(strength) for patch in patches], before, patches[0].key)
                added[name] = after - padded(before, after.shape)
        return added


def merge_of(patcher: Any) -> Merge | None:
    """Return the merging of the host that a patcher belongs to; None where it cannot be found."""
    forge = getattr(sys.modules.get("backend.patcher.lora"), "merge_lora_to_weight", None)
    if forge is not None:
        return lambda patches, weight, key: _outside(forge(patches, weight.clone(), key, torch.float32))
    functions = (getattr(sys.modules.get(name), "calculate_weight", None) for name in _FUNCTIONS)
    merge = next(filter(None, functions), None) or getattr(patcher, "calculate_weight", None)
    if merge is None:
        return None
    return lambda patches, weight, key: _outside(merge(patches, weight.clone(), key))


class Originals:
    """The weights that a host keeps of its models while networks are merged into them.

    Args:
        patchers: the host's, of the U-Net and of the text encoders.
    """

    def __init__(self, patchers: Iterable[Any]) -> None:
        self._where: dict[nn.Module, tuple[_Model, str]] = {}
        for patcher in patchers:
            model = _Model(patcher, patches_of(patcher).others, merge_of(patcher))
            for path, module in patcher.model.named_modules():
                self._where[module] = model, f"{path}."

    def of(self, module: nn.Module) -> Parameters | None:
        """Return a layer's parameters without the prompt's networks; None where the host keeps none of them.

        What other extensions have put into the weights belongs to the model here.
        """
        if module not in self._where:
            return None
        model, path = self._where[module]
        backup = _backup_of(model.patcher)  # filled when the host has merged
        found: dict[str, Tensor | None] = {}
        for name in module._parameters:
            if (original := backup.get(path + name)) is not None:
                found[name] = model.with_others(getattr(original, "weight", original), path + name)
        return found or None


@dataclass(frozen=True)
class _Model:
    """A host's model: its patcher, other extensions' patches by weight, and the host's merging."""

    patcher: Any
    others: Mapping[str, Sequence[Patch]]
    merge: Merge | None

    def with_others(self, weight: Tensor, key: str) -> Tensor:
        theirs = self.others.get(key)
        if not theirs or self.merge is None:
            return weight
        return self.merge([patch.at(patch.strength) for patch in theirs], weight.float(), key)


def _backup_of(patcher: Any) -> Mapping[str, Any]:
    """Return the original weights by name: Forge keeps them by model, its relatives by patcher.

    The host has loaded this patcher, or an earlier clone of it: only the one that was loaded knows them. Some
    have places for both, and one of them stays empty.
    """
    for keeper in (getattr(patcher, "lora_loader", None), patcher):
        if found := getattr(keeper, "backup", None):
            return found  # type: ignore[no-any-return]
    management = sys.modules.get("ldm_patched.modules.model_management")
    loaded = [item.model for item in getattr(management, "current_loaded_models", ())]
    real = [item for item in loaded if getattr(item, "model", None) is patcher.model]
    return getattr(real[0], "backup", {}) if real else {}


def merges_at_calls(module: nn.Module) -> bool:
    """Whether the host merges networks in every call of a layer, which is kept where there is more memory."""
    functions = [getattr(module, f"{name}_function", None) or () for name in module._parameters]
    return any(hasattr(function, "patches") for own in functions for function in own)


def comes_to_product(module: nn.Module, forward: Callable[..., Any]) -> bool:
    """Say whether a linear layer's forward multiplies by its weight as it is, and does nothing else.

    The hosts' own forwards do where nothing has to be cast, scaled or merged at the call.
    """
    if is_torch_s(forward):
        return True
    own = getattr(forward, "__func__", None)
    if (getattr(own, "__module__", ""), getattr(own, "__qualname__", "")) not in _PLAIN:
        return False
    casts = next((getattr(module, name) for name in _CASTS if hasattr(module, name)), True)
    others = (getattr(module, name, None) for name in _BESIDE)
    return not (casts or any(others)) and getattr(module, "scale_weight", None) is None


def padded(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a weight with zeros behind it, where a host has made it larger for a network."""
    if tuple(weight.shape) == tuple(shape):
        return weight
    missing = [max(wanted - has, 0) for has, wanted in zip(weight.shape, shape, strict=True)]
    return functional.pad(weight, [side for size in reversed(missing) for side in (0, size)])


def _outside(weight: Tensor) -> Tensor:
    """Return a weight that may be written: Forge merges in inference mode."""
    return weight.clone() if weight.is_inference() and not torch.is_inference_mode_enabled() else weight
