"""Names of a U-Net's modules in the original Stable Diffusion code, from the structure of a diffusers U-Net.

The original numbers all blocks of a half through, a downsampler as its own block and an upsampler as part of
the last; diffusers nests them by resolution. The numbers are counted in the live model, so any depth fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_TOP = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "conv_norm_out": "out.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNIT = re.compile(
    r"((?:down_blocks|up_blocks)\.\d+|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)"
)
Blocks = dict[str, dict[str, int]]  # how many units of a kind a block has


def ldm_names(modules: Iterable[str]) -> dict[str, str]:
    """Return the diffusers path of each module by its original path, both dotted.

    Args:
        modules: the paths of all modules of a U-Net in diffusers naming, as `named_modules` has them.
    """
    paths = list(modules)
    units = _units(paths)
    names = {}
    for path in paths:
        found = _UNIT.match(path)
        if path in _TOP:
            names[_TOP[path]] = path
        elif found and found[0] in units and len(path) > found.end():
            names[f"{units[found[0]]}.{_inner(found[2], path[found.end() + 1 :])}"] = path
    return names


def _inner(kind: str, rest: str) -> str:
    if kind == "resnets":
        return _RESNET.get(rest, rest)
    return rest.replace("conv", "op", 1) if kind == "downsamplers" else rest


def _units(paths: Iterable[str]) -> dict[str, str]:
    """Return the original path of each resnet, attention and sampler by its diffusers path."""
    blocks: Blocks = {}
    for path in paths:
        if found := _UNIT.match(path):
            counts = blocks.setdefault(found[1], {})
            counts[found[2]] = max(counts.get(found[2], 0), int(found[3]) + 1)
    units = dict(_middle(blocks.get("mid_block", {})))
    units.update(_half("down_blocks", "input_blocks", blocks, start=1))
    units.update(_half("up_blocks", "output_blocks", blocks, start=0))
    return units


def _half(half: str, original: str, blocks: Blocks, start: int) -> Iterator[tuple[str, str]]:
    number = start
    own = (name for name in blocks if name.startswith(half))
    for block in sorted(own, key=lambda name: int(name.split(".")[1])):
        counts = blocks[block]
        for resnet in range(counts.get("resnets", 0)):
            yield f"{block}.resnets.{resnet}", f"{original}.{number}.0"
            yield f"{block}.attentions.{resnet}", f"{original}.{number}.1"
            number += 1
        if counts.get("downsamplers"):
            yield f"{block}.downsamplers.0", f"{original}.{number}.0"
            number += 1
        if counts.get("upsamplers"):
            # In the last block of this resolution, behind the resnet and, where there is one, the attention.
            yield f"{block}.upsamplers.0", f"{original}.{number - 1}.{2 if counts.get('attentions') else 1}"


def _middle(counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    number = 0
    for resnet in range(counts.get("resnets", 0)):
        yield f"mid_block.resnets.{resnet}", f"middle_block.{number}"
        number += 1
        if resnet < counts.get("attentions", 0):
            yield f"mid_block.attentions.{resnet}", f"middle_block.{number}"
            number += 1
