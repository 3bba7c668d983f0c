"""Which family of models a network is for: a guess from its names and widths, to tell the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

SD1 = "SD 1.x"
SD2 = "SD 2.x"
SDXL = "SDXL"
SD3 = "SD3"
FLUX = "Flux"
UNKNOWN = "unknown"

CONTEXT_WIDTHS = {768: SD1, 1024: SD2, 2048: SDXL}
_MARKS = (
    (FLUX, ("double_blocks_", "single_blocks_", "single_transformer_blocks_")),
    (SD3, ("joint_blocks_", "attn_add_k_proj", "attn_add_q_proj")),
    (SDXL, ("add_embedding_linear", "label_emb_")),
)
# SDXL alone has several transformer blocks to an attention.
_DEEP = re.compile(r"(?:attentions|block|blocks)_(?:\d+_)+transformer_blocks_[1-9]")
# kohya's and the model specification's own statement.
_STATEMENTS = ("ss_base_model_version", "modelspec.architecture")
_STATED = (
    ("sdxl", SDXL),
    ("stable-diffusion-xl", SDXL),
    ("flux", FLUX),
    ("sd3", SD3),
    ("stable-diffusion-v3", SD3),
    ("stable-diffusion-3", SD3),
    ("sd_v2", SD2),
    ("stable-diffusion-v2", SD2),
    ("sd_v1", SD1),
    ("stable-diffusion-v1", SD1),
)


def guess_family(widths: Mapping[tuple[str, str], int | None], metadata: Mapping[str, str]) -> str:
    """Return the family a network seems to be for.

    Args:
        widths: the input width by component and flat layer name; None where it is not known.
        metadata: the file's own metadata.
    """
    names = [layer for _, layer in widths]
    for family, marks in _MARKS:
        if any(mark in name for name in names for mark in marks):
            return family
    components = {component for component, _ in widths}
    if "te2" in components or any(_DEEP.search(name) for name in names):
        return SDXL
    if "te3" in components or "transformer" in components:
        return SD3 if "te3" in components else UNKNOWN
    unet = [(layer, width) for (component, layer), width in widths.items() if component == "unet"]
    by_width = family_of_widths(unet)
    return by_width if by_width != UNKNOWN else _stated(metadata)


def family_of_widths(widths: Iterable[tuple[str, int | None]]) -> str:
    """Return the family by the width of the text that a U-Net's cross-attention reads."""
    for layer, width in widths:
        if layer.endswith(("attn2_to_k", "attn2_to_v")) and width is not None:
            return CONTEXT_WIDTHS.get(width, UNKNOWN)
    return UNKNOWN


def _stated(metadata: Mapping[str, str]) -> str:
    said = " ".join(metadata.get(key, "") for key in _STATEMENTS).lower()
    return next((family for mark, family in _STATED if mark in said), UNKNOWN)
