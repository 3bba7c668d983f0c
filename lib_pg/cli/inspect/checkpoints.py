"""A checkpoint, from its headers alone: no tensor is read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_pg.cli.inspect.facts import About, mebibytes
from lib_pg.cli.pipelines import (
    CHANNELS,
    CHANNELS_INPAINTING,
    CLASSES,
    INDEX,
    INDEX_BYTES_MAX,
    UNET_PREFIX,
    family_of_names,
)
from lib_pg.deltas.kind import BYTES, Header
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.errors import NetworkError, counted, printable
from lib_pg.formats.family import UNKNOWN, guess_family
from lib_pg.formats.match import COMPONENTS

_PREFIXES = {
    UNET_PREFIX: "U-Net",
    "cond_stage_model.": "text encoder",
    "conditioner.embedders.0.": "text encoder",
    "conditioner.embedders.1.": "second text encoder",
    "first_stage_model.": "VAE",
}
# What the U-Net reads beside the noisy picture, by the channels of its first layer.
_FIRST = ("input_blocks.0.0.weight", "conv_in.weight")
_MADE_FOR = {
    5: "drawing after a depth map",
    7: "upscaling",
    8: "editing by instruction (InstructPix2Pix)",
    CHANNELS_INPAINTING: "inpainting",
}


@dataclass
class _Part:
    tensors: int = 0
    nbytes: int = 0
    types: Counter[str] = field(default_factory=Counter)

    def add(self, header: Header) -> None:
        self.tensors += 1
        self.nbytes += header.nbytes
        self.types[header.dtype] += 1


def about_checkpoint(path: Path) -> About:
    """Return what is known of a single file with a whole pipeline.

    Raises:
        NetworkError: it is damaged or beyond a limit.
    """
    headers = {key: stored.header for key, stored in open_checkpoint(path).of("").items()}
    parts: dict[str, _Part] = {}
    for key, header in headers.items():
        name = next((called for prefix, called in _PREFIXES.items() if key.startswith(prefix)), "other")
        parts.setdefault(name, _Part()).add(header)
    unet = {
        key.removeprefix(UNET_PREFIX): each for key, each in headers.items() if key.startswith(UNET_PREFIX)
    }
    named = family_of_names(headers)
    return _about(path.stem, named, unet, parts, drawn=bool(named))


def about_folder(path: Path) -> About:
    """Return what is known of a folder in diffusers format.

    Raises:
        NetworkError: it is damaged or beyond a limit.
    """
    checkpoint = open_checkpoint(path)
    parts: dict[str, _Part] = {}
    for component, tensors in checkpoint.tensors.items():
        for stored in tensors.values():
            parts.setdefault(COMPONENTS[component], _Part()).add(stored.header)
    unet = {key: stored.header for key, stored in checkpoint.tensors["unet"].items()}
    kind = _class_of(path)
    return _about(path.name, "", unet, parts, drawn=kind in CLASSES, kind=kind)


def _about(
    name: str,
    named: str,
    unet: Mapping[str, Header],
    parts: Mapping[str, _Part],
    drawn: bool,
    kind: str = "",
) -> About:
    widths = {
        ("unet", key.removesuffix(".weight").replace(".", "_")): header.shape[1]
        for key, header in unet.items()
        if len(header.shape) == 2
    }
    guessed = guess_family(widths, {})
    family = guessed if guessed != UNKNOWN else named or UNKNOWN
    first = next((unet[key].shape for key in _FIRST if key in unet), ())
    channels = first[1] if len(first) == 4 else CHANNELS
    made_for = _MADE_FOR.get(channels, "")
    drawn = drawn and channels in (CHANNELS, CHANNELS_INPAINTING)
    learned = {part: each for part, each in parts.items() if part in COMPONENTS.values()}
    exact = all(dtype in BYTES for part in learned.values() for dtype in part.types)
    facts: dict[str, Any] = {
        "what": "checkpoint",
        "name": name,
        "family": family,
        "pipeline": kind,
        "made_for": made_for,
        "generate": drawn,
        "base": exact,
        "parts": {
            part: {"tensors": each.tensors, "bytes": each.nbytes, "types": dict(each.types)}
            for part, each in parts.items()
        },
        "weak_weights_bytes": sum(each.nbytes for each in learned.values()),
    }
    lines = [(part, _said(each)) for part, each in parts.items()]
    if made_for:
        lines.append(("made for", made_for))
    lines += [
        ("generate", _drawn(drawn, channels)),
        ("weakened", _weakened(exact, learned)),
        ("cost", _cost(learned)),
    ]
    called = "of a family that is not known" if family == UNKNOWN else f"of {family}"
    return About(name, f"a checkpoint {called}", facts, lines)


def _said(part: _Part) -> str:
    types = ", ".join(f"{dtype} {count}x" for dtype, count in part.types.most_common(4))
    return f"{counted(part.tensors, 'tensor')}, {mebibytes(part.nbytes)} ({types})"


def _drawn(drawn: bool, channels: int) -> str:
    if not drawn:
        return "no: only whole SD 1.x, SD 2.x and SDXL models, also for inpainting, are drawn with here"
    return "yes" if channels == CHANNELS else "yes, with --init-image and --mask"


def _weakened(exact: bool, learned: Mapping[str, _Part]) -> str:
    if not exact:
        return "not as a fine-tune: its quantised weights have no exact difference; its networks can be"
    return (
        f"as a full fine-tune ({', '.join(learned)}), towards what it started from: --base-checkpoint PATH; "
        "layers that are equal cost nothing; the VAE is never weakened"
    )


def _cost(learned: Mapping[str, _Part]) -> str:
    total = sum(part.nbytes for part in learned.values())
    return f"at most {mebibytes(total)} of weak weights; --weak-memory RANK cuts the U-Net's to a low rank"


def _class_of(folder: Path) -> str:
    """Return the pipeline's class that a folder names."""
    index = folder / INDEX
    advice = "choose a folder that diffusers has saved"
    try:
        if os.path.getsize(index) > INDEX_BYTES_MAX:
            raise NetworkError(folder.name, f"its {INDEX} has over {INDEX_BYTES_MAX} bytes", advice)
        content = json.loads(index.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problem = f"its {INDEX} cannot be read ({printable(str(error))})"
        raise NetworkError(folder.name, problem, advice) from error
    name = content.get("_class_name") if isinstance(content, dict) else None
    return printable(name) if isinstance(name, str) else ""
