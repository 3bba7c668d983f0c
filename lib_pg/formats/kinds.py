"""All kinds of networks that files may hold, a line each, and what their tensors are called."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lib_pg.deltas.bias import BIAS
from lib_pg.deltas.dora import DORA
from lib_pg.deltas.full import FULL, NORM
from lib_pg.deltas.glora import GLORA
from lib_pg.deltas.ia3 import LYCORIS_IA3, PEFT_IA3
from lib_pg.deltas.kind import Kind, Modifier
from lib_pg.deltas.loha import LOHA
from lib_pg.deltas.lokr import LOKR
from lib_pg.deltas.low_rank import EMBEDDING_LORA, LORA
from lib_pg.deltas.oft import OFT

KINDS: tuple[Kind, ...] = (
    LORA,
    EMBEDDING_LORA,
    LOHA,
    LOKR,
    FULL,
    NORM,
    OFT,
    GLORA,
    PEFT_IA3,
    LYCORIS_IA3,
)
# What lies over a kind, from the inside out.
MODIFIERS: tuple[Modifier, ...] = (DORA, BIAS)
# Numbers that any kind may have.
NUMBERS = {"alpha": r"(?:\.lora)?\.alpha", "scale": r"\.scale", "scalar": r"\.scalar"}
# Known, and not read: why is in the name.
UNSUPPORTED = {
    "PEFT OFT": r"\.oft_R(?:\.[^.]+)*",
    "PEFT BOFT": r"\.boft_[A-Za-z]\w*(?:\.[^.]+)*",
    "embedding": r"\.(?:string_to_param\.)?(?:emb_params|\*)",
}
# Says nothing that the factors' own shapes do not: what ComfyUI pads a weight to.
IGNORED = {"reshape_weight": r"\.reshape_weight"}
# Scales of fp8 weights, as fp8 checkpoints have them: without, every weight beside them is another one.
QUANTISED = {
    "fp8 scale": r"(?:^|\.)(?:scaled_fp8|scale_weight|weight_scale|scale_input|input_scale|comfy_quant)"
}

_PARTS: tuple[Mapping[str, str], ...] = (
    *(kind.parts for kind in KINDS),
    *(modifier.parts for modifier in MODIFIERS),
    NUMBERS,
    UNSUPPORTED,
    IGNORED,
    QUANTISED,
)
# How a tensor's name ends, by part. Every weight's ending, which (IA)3 has, comes after all others.
ENDINGS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (part, re.compile(rf"(?:{pattern})$"))
    for part, pattern in sorted(
        (item for parts in _PARTS for item in parts.items()), key=lambda item: item[1] == r"\.weight"
    )
)
