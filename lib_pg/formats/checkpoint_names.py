"""Where a checkpoint keeps each parameter of a diffusers U-Net or a transformers CLIP text encoder.

Folders of diffusers name them as the modules are called. Single files name them as the original code does: a
U-Net under `model.diffusion_model.`, text encoders as CLIP has them in transformers or, for SD 2.x and the
second one of SDXL, in OpenCLIP, which keeps q, k and v of a layer in one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from lib_pg.formats.ldm import ldm_names
from lib_pg.formats.live import live_modules

_UNET = "model.diffusion_model."
# Where the text encoders are in SD 1.x, SD 2.x and SDXL: prefix, and whether OpenCLIP's names follow.
_TEXT = {
    "te1": (
        ("cond_stage_model.transformer.", False),
        ("cond_stage_model.model.", True),
        ("conditioner.embedders.0.transformer.", False),
    ),
    "te2": (("conditioner.embedders.1.model.", True),),
}
_ROOT = "text_model."
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_OPEN_CLIP_TOP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_THIRDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True)
class Place:
    """A parameter in a file.

    Attributes:
        key: the tensor's name.
        third: which of its three equal parts along the first axis, such as 0 for q; None for all of it.
        turned: whether the file has it transposed.
    """

    key: str
    third: int | None = None
    turned: bool = False


def places(
    component: str,
    model: nn.Module,
    names: Sequence[tuple[str, str]],
    keys: Mapping[str, object],
    single: bool,
) -> dict[tuple[str, str], Place]:
    """Return where each parameter would be.

    Args:
        component: unet, te1 or te2.
        names: parameters, by their modules' paths and their own names.
        keys: the file's tensors.
        single: whether it is a single file with a whole pipeline.
    """
    if component == "unet":
        return (
            dict(_of_unet(model, names))
            if single
            else {(path, name): Place(f"{path}.{name}") for path, name in names}
        )
    prefix, open_clip = _text_prefix(component, keys) if single else ("", False)
    found = {}
    for path, name in names:
        short = _unwrapped(f"{path}.{name}").removeprefix(_ROOT)
        if open_clip:
            place = _in_open_clip(prefix, short)
        elif short.startswith("text_projection"):
            place = Place(prefix + short)
        else:  # transformers 5 dropped the root from one of its classes
            place = Place(prefix + (_ROOT if f"{prefix}{_ROOT}{short}" in keys else "") + short)
        found[path, name] = place
    return found


def original_name(prefix: str, path: str, name: str) -> str:
    """Return the name in a single file of a parameter whose module has its original name in the host."""
    return prefix + _unwrapped(f"{path}.{name}")


def _unwrapped(name: str) -> str:
    """Return a parameter's name without the wrappers that WebUIs put around modules."""
    return ".".join(word for word in name.split(".") if word and word != "wrapped")


def _of_unet(model: nn.Module, names: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], Place]]:
    original = {path: name for name, path in ldm_names(path for path, _ in live_modules(model)).items()}
    for path, name in names:
        yield (path, name), Place(f"{_UNET}{original.get(path, path)}.{name}")


def _text_prefix(component: str, keys: Mapping[str, object]) -> tuple[str, bool]:
    known = _TEXT.get(component, ())
    found = [
        (prefix, open_clip) for prefix, open_clip in known if any(key.startswith(prefix) for key in keys)
    ]
    return found[0] if found else ("nowhere.", False)


def _in_open_clip(prefix: str, short: str) -> Place:
    if short in _OPEN_CLIP_TOP:
        return Place(prefix + _OPEN_CLIP_TOP[short])
    if short == "text_projection.weight":
        return Place(f"{prefix}text_projection", turned=True)
    layer = _LAYER.fullmatch(short)
    if layer is None:
        return Place(prefix + short)
    stem = f"{prefix}transformer.resblocks.{layer[1]}."
    path, _, name = layer[2].rpartition(".")
    if path in _THIRDS:
        return Place(f"{stem}attn.in_proj_{name}", third=_THIRDS.index(path))
    return Place(f"{stem}{_OPEN_CLIP.get(path, path)}.{name}")
