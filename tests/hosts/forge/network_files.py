"""A small stand-in of the networks that Forge and its relatives have active, and of the hosts' modules."""

from __future__ import annotations

import functools
import sys
import types
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any

import torch
from torch import Tensor

from tests.hosts.forge.stand_in import WIDTH, Engine, ForgeObjects, Kind, SdConditioning, UnetPatcher


@dataclass(frozen=True)
class Change:
    """What a file does to one weight, as Forge reads it: a kind of network and its tensors."""

    key: str
    value: tuple[str, tuple[Any, ...]]
    offset: tuple[int, int, int] | None = None
    function: Callable[[Tensor], Tensor] | None = None


def lora(key: str, shape: Sequence[int], seed: int, rank: int = 2, **options: Any) -> Change:
    """Return a LoRA for a weight, or a part of one, of that shape."""
    random = torch.Generator().manual_seed(seed)
    up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=random) * 0.5
    down = torch.randn(rank, *shape[1:], generator=random) * 0.5
    return Change(key, ("lora", (up, down, 1.0, None, None)), **options)


def network_file(seed: int) -> list[Change]:
    return [
        lora("diffusion_model.conv.weight", (WIDTH, WIDTH, 3, 3), seed),
        lora("diffusion_model.point.weight", (WIDTH, WIDTH, 1, 1), seed + 1),
        lora("diffusion_model.qkv.weight", (3 * WIDTH, WIDTH), seed + 2),
        lora("diffusion_model.out.weight", (WIDTH, WIDTH), seed + 3),
        lora("clip_l.layer.weight", (WIDTH, WIDTH), seed + 4),
    ]


def merge(patches: Sequence[Sequence[Any]], weight: Tensor, key: str = "", dtype: Any = None) -> Tensor:
    """Return a weight with patches merged into it, each into what those before it have left.

    The kinds are like the hosts' in what they need: `glora` depends on the weight, `set` takes its place,
    DoRA is a part of `lora`, and `newest` is a kind that nobody has heard of.
    """
    weight = weight.clone()
    for strength, value, *rest in patches:
        factor, offset, function = (*rest, None, None)[:3]
        part = weight if offset is None else weight.narrow(*offset)
        part *= factor
        part += (function or (lambda whole: whole))(_change(value, part, strength))
    return weight


def _change(value: Any, weight: Tensor, strength: float) -> Tensor:
    name, tensors = (value.name, value.weights) if hasattr(value, "weights") else value
    if name == "diff":
        return strength * tensors[0]
    if name == "set":
        return tensors[0] - weight
    if name == "newest":
        return strength * (weight.roll(1, 0) - weight)
    if name == "lokr":
        return strength * torch.kron(*tensors[:2]).reshape(weight.shape)
    if name == "glora":
        return strength * (tensors[0] + weight.flatten(1) @ tensors[1]).reshape(weight.shape)
    up, down, alpha, core, *dora = tensors
    narrow = down.flatten(1)
    if core is not None:
        narrow = torch.einsum("rshw,si->rihw", core, narrow).flatten(1)
    scale = 1.0 if alpha is None else float(alpha) / len(down)
    added = scale * (up.flatten(1) @ narrow).reshape(weight.shape)
    if dora and dora[0] is not None:
        share = dora[0].flatten() / weight.flatten(1).norm(dim=1)
        added = (weight + added) * share.view(-1, *[1] * (weight.ndim - 1)) - weight
    return strength * added


class NamedWeights:
    """reForge's and Neo's object of one patch."""

    def __init__(self, name: str, weights: tuple[Any, ...]) -> None:
        self.name, self.weights = name, weights


@dataclass
class Network:
    """The host's own object of an active network."""

    name: str
    te_multiplier: float = 1.0
    unet_multiplier: float = 1.0
    network_on_disk: Any = None
    mentioned_name: str | None = None

    def __post_init__(self) -> None:
        filename = f"{self.name}.safetensors"
        self.network_on_disk = types.SimpleNamespace(name=self.name, filename=filename, metadata={})
        self.mentioned_name = self.name


Used = Sequence[tuple[Network, list[Change]]]
Kept = namedtuple("Kept", ["weight", "inplace_update"])

# Where the hosts prepare their sampling, manage their memory and merge, and what the latter is called.
_OLD = ("modules_forge.forge_sampler", "ldm_patched.modules.model_management", "ldm_patched.modules.lora")
_SAMPLING = "backend.sampling.sampling_function"
MODULES: dict[Kind, tuple[str, str, str, str]] = {
    "Forge": (_SAMPLING, "backend.memory_management", "backend.patcher.lora", "merge_lora_to_weight"),
    "reForge": (*_OLD, "calculate_weight"),
    "Forge Classic": (*_OLD, "calculate_weight"),
    "Forge Neo": (_SAMPLING, "comfy.model_management", "comfy.lora", "calculate_weight"),
}


class AtCalls:
    """What Neo does to a layer that it has no room for: its patches are merged in every call.

    Args:
        key: name of its weight.
    """

    def __init__(self, patcher: UnetPatcher, key: str) -> None:
        self.key, self.patches = key, patcher.patches

    def __call__(self, weight: Tensor) -> Tensor:
        return merge(self.patches[self.key], weight)


def offload(engine: Engine, key: str) -> None:
    """Have a linear layer of the U-Net's kept where there is more memory, without networks in its weight."""
    patcher = engine.forge_objects.unet
    module = patcher.model.get_submodule(key.rpartition(".")[0])
    module.weight.copy_(patcher.backup.pop(key).weight)
    module.weight_function = [AtCalls(patcher, key)]


def activate(
    engine: Engine, used: Used, ratio: float | Sequence[float] = 1.0, text_ratio: float | None = None
) -> None:
    """Have the networks in the model's patches, and `ratio` of what each contributes in its weights.

    Args:
        ratio: one for all networks, or one for each.
        text_ratio: that of the text encoder, where it is another.
    """
    ratios = [ratio] * len(used) if isinstance(ratio, float) else ratio
    engine.current_lora_hash = str([(n.name, n.unet_multiplier, n.te_multiplier) for n, _ in used])
    original = engine.forge_objects_original
    patchers = original.unet.clone(), original.clip.patcher.clone()
    for patcher, pristine in zip(patchers, engine.pristine, strict=True):
        weights = dict(patcher.model.named_parameters())
        below = {name: weight.clone() for name, weight in pristine.items()}
        total = {name: weight.clone() for name, weight in pristine.items()}
        touched: dict[str, Tensor] = {}
        for (network, file), its_own in zip(used, ratios, strict=True):
            is_unet = patcher is patchers[0]
            strength = network.unet_multiplier if is_unet else network.te_multiplier
            part_of_it = its_own if is_unet or text_ratio is None else text_ratio
            changes = [change for change in file if change.key in weights]
            _add_patches(engine.kind, patcher, network, strength, changes)
            for change in changes:
                patch = (strength, change.value, 1.0, change.offset, change.function)
                after = merge([patch], below[change.key])
                total[change.key] += part_of_it * (after - below[change.key])
                below[change.key] = after
                touched[change.key] = pristine[change.key]
        for name, weight in weights.items():
            weight.copy_(total[name])
        if engine.kind == "Forge":
            patcher.model.lora_loader = types.SimpleNamespace(backup=touched)
            patcher.lora_loader = patcher.model.lora_loader
        elif engine.kind == "Forge Neo":
            patcher.backup = {name: Kept(weight, False) for name, weight in touched.items()}
        else:
            patcher.backup = touched
    engine.forge_objects = ForgeObjects(
        patchers[0], types.SimpleNamespace(patcher=patchers[1], cond_stage_model=engine.encoders)
    )
    engine.forge_objects_after_applying_lora = engine.forge_objects.shallow_copy()


def _add_patches(
    kind: Kind, patcher: UnetPatcher, network: Network, strength: float, changes: Sequence[Change]
) -> None:
    if not changes:
        return
    if kind == "Forge":
        by_weight: dict[str, list[Any]] = {}
        patcher.lora_patches[network.network_on_disk.filename, strength, 1.0, False] = by_weight
    else:
        by_weight = patcher.patches
    for change in changes:
        name, weights = change.value
        value: Any = change.value
        if kind in ("reForge", "Forge Neo") and name != "diff":
            value = NamedWeights(name, (*weights, None) if name == "lora" else weights)
        elif kind == "Forge Classic":
            value = (name, weights[:4] if name == "lora" else weights)
        patch = (strength, value, 1.0, change.offset, change.function)
        by_weight.setdefault(change.key, []).append(patch[:3] if kind == "Forge Classic" else patch)


@contextmanager
def host(used: Used = (), kind: Kind = "Forge", family: Any = "SD") -> Iterator[Engine]:
    """Have the host's modules importable, with a model in whose weights the networks are."""
    files = {n.network_on_disk.filename: changes for n, changes in used}

    read: set[str] = set()

    @functools.lru_cache(maxsize=5)
    def load_lora_state_dict(filename: str) -> dict[str, Tensor]:
        tensors = [t for change in files[filename] for t in change.value[1] if isinstance(t, Tensor)]
        if filename in read:  # what has left the cache is read anew, as other tensors
            tensors = [tensor.clone() for tensor in tensors]
        read.add(filename)
        return {str(index): tensor for index, tensor in enumerate(tensors)}

    def sampling_prepare(unet: UnetPatcher, x: Tensor) -> None:
        _, _, _, _ = x.shape
        unet.model.diffusion_model.is_loaded = True

    opts = types.SimpleNamespace(CLIP_stop_at_last_layers=2)
    sampling, memory, merging, function = MODULES[kind]
    contents: dict[str, dict[str, Any]] = {
        "modules": {
            "devices": types.SimpleNamespace(autocast=nullcontext),
            "shared": types.SimpleNamespace(opts=opts),
        },
        "modules.prompt_parser": {"SdConditioning": SdConditioning},
        "networks": {
            "loaded_networks": [network for network, _ in used],
            "load_lora_state_dict": (
                functools.partial(load_lora_state_dict.__wrapped__)
                if kind == "Forge Neo"
                else load_lora_state_dict
            ),
        },
        sampling: {"sampling_prepare": sampling_prepare},
        memory: {"load_model_gpu": lambda patcher: None, "current_loaded_models": []},
        merging: {function: merge},
    }
    for name in list(contents):
        parts = name.split(".")
        contents = {".".join(parts[:end]): {} for end in range(1, len(parts))} | contents
    added = {name: types.ModuleType(name) for name in contents}
    for name, module in added.items():
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(contents[name])
    before = {name: sys.modules.get(name) for name in added}
    sys.modules.update(added)
    engine = Engine(kind, family)
    try:
        with torch.no_grad():
            for filename in files:
                load_lora_state_dict(filename)
            activate(engine, used)
            yield engine
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
