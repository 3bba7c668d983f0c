"""Names of tensors in network files: which layer of which component, which part of what kind of network.

Trainers write a component's prefix and a module's path, with underscores (kohya: `lora_unet_mid_block_...`)
or with dots (diffusers and PEFT: `unet.mid_block....`). All of them become the same flat layer name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from lib_pg.formats.kinds import ENDINGS
from lib_pg.formats.limits import ENDING_LENGTH_MAX

UNRECOGNISED = "unrecognised"
# The end of (IA)3's name is that of every weight: it counts in network files' own naming alone.
_PLAIN_WEIGHT = "ia3_weight"

# Attention processors of diffusers up to 0.16: `...attn1.processor.to_out_lora.down.weight`.
_OLD_ENDING = re.compile(r"_lora(?:\.(down|up)\.weight|\.(alpha))$")
_OLD_NAMES = {
    "unet": {"to_out": "to_out.0"},
    "te1": {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"},
    "te2": {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"},
}

# Before a path with underscores. OneTrainer's own format has a dot behind the same words.
_FLAT_PREFIXES = {
    "lora_unet": "unet",  # kohya, LyCORIS, ai-toolkit, musubi-tuner, OneTrainer
    "oft_unet": "unet",  # kohya's OFT
    "lora_te": "te1",  # kohya: where there is one text encoder
    "lora_te1": "te1",  # kohya: SDXL's
    "lora_te2": "te2",
    "lora_te3": "te3",
    "lora_transformer": "transformer",  # OneTrainer: families without a U-Net
    "lycoris": None,  # SimpleTuner and LyCORIS alone: the path tells
}
# Before a path with dots. Those of one row name the same thing; a trainer may put one before the other.
_DOTTED_PREFIXES = {
    "unet.": "unet",  # diffusers, SimpleTuner, OneTrainer's OMI
    "text_encoder.": "te1",  # diffusers
    "text_encoder_2.": "te2",
    "text_encoder_3.": "te3",
    "clip_l.": "te1",  # OneTrainer's OMI, ComfyUI
    "clip_h.": "te1",  # ComfyUI: that of SD 2.x
    "clip_g.": "te2",
    "t5xxl.": "te3",
    "t5.": "te3",
    "transformer.": "transformer",
}
_WRAPPERS = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "text_encoders.")
# ComfyUI's clip_l.transformer.text_model...: not the prefix of families without a U-Net.
_TEXT_WRAPPER = "transformer."
# Where a text encoder's path begins, whatever stands before it.
_TEXT_ROOT = re.compile(r"(?:^|(?<=[._]))(?:text_model[._]|encoder[._]layers[._]\d)")


class LayerKey(NamedTuple):
    """A layer of a network: 'unet', 'te1' or 'te2' (or that of a family we do not know) and its flat name."""

    component: str
    layer: str

    def __str__(self) -> str:
        return f"{self.component} {self.layer}"


@dataclass(frozen=True)
class ParsedKey:
    """What a tensor's name says.

    Attributes:
        layer: the layer it belongs to.
        dotted: the layer's path as the file spells it, without prefixes.
        part: one of a kind's parts, a number's name, a kind that is not read, or `UNRECOGNISED`.
    """

    layer: LayerKey
    dotted: str
    part: str


def parse_key(key: str) -> ParsedKey:
    """Take a tensor's name apart; names of no known form have the part `UNRECOGNISED`."""
    component, path = _without_prefix(key)
    if key.startswith("bundle_emb."):
        return ParsedKey(LayerKey(component, key), key, "embedding")
    dotted, part = _without_ending(component, path)
    if part == _PLAIN_WEIGHT and _flat_prefix(key) is None:
        dotted, part = path, UNRECOGNISED
    return ParsedKey(LayerKey(component, flat_name(component, dotted)), dotted, part)


def flat_name(component: str, dotted: str) -> str:
    """Return a layer's name in the normal form: underscores only, without `text_model`.

    transformers 5 dropped that prefix from CLIPTextModel and kept it in CLIPTextModelWithProjection.
    """
    flat = dotted.replace(".", "_")
    return flat if component == "unet" else flat.removeprefix("text_model_")


def _without_prefix(key: str) -> tuple[str, str]:
    flat = _flat_prefix(key)
    if flat is not None:
        path = key[len(flat) + 1 :]
        component = _FLAT_PREFIXES[flat]
        return (component, path) if component else _guessed(path)
    path = _unwrapped(key)
    for prefix, named in _DOTTED_PREFIXES.items():
        if path.startswith(prefix):
            path = _unwrapped(path[len(prefix) :])
            return named, path.removeprefix(_TEXT_WRAPPER) if named.startswith("te") else path
    return _guessed(path)


def _flat_prefix(key: str) -> str | None:
    """Return the words before the path of a key in kohya's naming."""
    return next((prefix for prefix in _FLAT_PREFIXES if key.startswith((f"{prefix}_", f"{prefix}."))), None)


def _unwrapped(path: str) -> str:
    for wrapper in _WRAPPERS:
        path = path.removeprefix(wrapper)
    return path


def _guessed(path: str) -> tuple[str, str]:
    """Return the component and the path within it of a name without a known prefix.

    Such files come from training one model alone, nearly always the U-Net. A text encoder that stands behind
    an unknown prefix is named by that: which one it is nobody knows, but it is not the U-Net.
    """
    root = _TEXT_ROOT.search(path)
    if root is None:
        return "unet", path
    prefix = path[: root.start()].strip("._")
    return prefix or "te1", path[root.start() :]


def _without_ending(component: str, path: str) -> tuple[str, str]:
    path = path.replace(".processor.", ".")
    old = _OLD_ENDING.search(path)
    if old:
        parent, _, name = path[: old.start()].rpartition(".")
        name = _OLD_NAMES.get(component, {}).get(name, name)
        return f"{parent}.{name}".lstrip("."), old[1] or old[2]
    for part, pattern in ENDINGS:
        found = pattern.search(path, max(0, len(path) - ENDING_LENGTH_MAX))
        if found:
            return path[: found.start()], part
    return path, UNRECOGNISED
