"""Names of tensors in network files: which layer of which component, which part of what kind of network.

Two conventions exist. kohya writes a prefix and a module's path with underscores, `lora_unet_mid_block_...`;
diffusers and PEFT write the path with dots, `unet.mid_block....`. Both become the same flat layer name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from lib_pg.formats.kinds import ENDINGS

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

_FLAT_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te_": "te1",
    "lora_te1_": "te1",
    "lora_te2_": "te2",
    "lora_te3_": "te3",
    "lora_transformer_": "transformer",
    "lycoris_": None,
}
_DOTTED_PREFIXES = {
    "unet.": "unet",
    "text_encoder.": "te1",
    "text_encoder_2.": "te2",
    "text_encoder_3.": "te3",
    "transformer.": "transformer",
}
_WRAPPERS = ("base_model.model.", "model.diffusion_model.", "diffusion_model.")
_TEXT_ROOTS = ("text_model.", "text_model_", "encoder.layers.")


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
    if part == _PLAIN_WEIGHT and not key.startswith(tuple(_FLAT_PREFIXES)):
        dotted, part = path, UNRECOGNISED
    return ParsedKey(LayerKey(component, flat_name(component, dotted)), dotted, part)


def flat_name(component: str, dotted: str) -> str:
    """Return a layer's name in the normal form: underscores only, without `text_model`.

    transformers 5 dropped that prefix from CLIPTextModel and kept it in CLIPTextModelWithProjection.
    """
    flat = dotted.replace(".", "_")
    return flat if component == "unet" else flat.removeprefix("text_model_")


def _without_prefix(key: str) -> tuple[str, str]:
    for prefix, component in _FLAT_PREFIXES.items():
        if key.startswith(prefix):
            path = key[len(prefix) :]
            return component or _component_of(path), path
    path = _unwrapped(key)
    for prefix, component in _DOTTED_PREFIXES.items():
        if path.startswith(prefix):
            return component, _unwrapped(path[len(prefix) :])
    return _component_of(path), path


def _unwrapped(path: str) -> str:
    for wrapper in _WRAPPERS:
        path = path.removeprefix(wrapper)
    return path


def _component_of(path: str) -> str:
    """Files without a component's prefix come from training one model alone, nearly always the U-Net."""
    return "te1" if path.startswith(_TEXT_ROOTS) else "unet"


def _without_ending(component: str, path: str) -> tuple[str, str]:
    path = path.replace(".processor.", ".")
    old = _OLD_ENDING.search(path)
    if old:
        parent, _, name = path[: old.start()].rpartition(".")
        name = _OLD_NAMES.get(component, {}).get(name, name)
        return f"{parent}.{name}".lstrip("."), old[1] or old[2]
    for part, pattern in ENDINGS:
        found = pattern.search(path)
        if found:
            return path[: found.start()], part
    return path, UNRECOGNISED
