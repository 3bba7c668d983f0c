"""The options of `evaluate --protocol dreambench`. Light to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib_pg.cli.whole import whole

CLIP = "openai/clip-vit-base-patch32"
DINO = "facebook/dino-vits16"
DINOV2 = "facebook/dinov2-small"
NONE = "none"
SCALES = (3.0, 5.0, 7.5)
METHODS = ("CFG", "AG 0.5", "PG 0.25", "PG 0.5", "PG 0.75")
FIDELITIES = ("dino", "dinov2", "clip_i")


def add_options(parser: Any) -> None:
    """Add the options of this protocol to a parser that has --out, --batch, --device, --seed and --steps."""
    group = parser.add_argument_group("with --protocol dreambench: your own subjects")
    group.add_argument(
        "--subjects", type=Path, metavar="FOLDER",
        help="a folder for each subject, with its pictures, its LoRA and a subject.json; or DreamBench++'s "
        "layout",
    )  # fmt: skip
    group.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help="DreamBench's prompts_and_classes.txt, or lines such as: a {0} {1} in the snow (default: that "
        "file in --subjects, or our own list of 25 for things and 25 for animals and people)",
    )  # fmt: skip
    group.add_argument(
        "--token", help="what the fine-tunes call their subject, where subject.json does not say it"
    )
    group.add_argument(
        "--checkpoint", type=Path, metavar="PATH",
        help="what the LoRAs belong to: diffusers folder or .safetensors file",
    )  # fmt: skip
    group.add_argument("--config", type=Path, metavar="FOLDER", help="as for `generate`")
    group.add_argument(
        "--base-checkpoint", type=Path, metavar="PATH", help="what full fine-tunes started from"
    )
    group.add_argument(
        "--methods", type=_names, default=METHODS, metavar="NAMES",
        help=f"separated by semicolons (default: {'; '.join(METHODS)})",
    )  # fmt: skip
    group.add_argument(
        "--scales", type=_scales, default=SCALES, metavar="NUMBERS",
        help="guidance scales, separated by commas, each above 1 (default: "
        f"{','.join(f'{scale:g}' for scale in SCALES)})",
    )  # fmt: skip
    group.add_argument("--count", type=_count, default=4, help="pictures a prompt and setting (default: 4)")
    group.add_argument("--sampler", default="DPM++ 2M", metavar="NAME", help="as for `generate`")
    group.add_argument("--width", type=int, metavar="PIXELS", help="default: the model's own")
    group.add_argument("--height", type=int, metavar="PIXELS", help="default: the model's own")
    group.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="of the checkpoint"
    )
    where = "folder or NAME[@REVISION] on the hub, safetensors only"
    group.add_argument("--clip", default=CLIP, help=f"for CLIP-T and CLIP-I: {where} (default: {CLIP})")
    group.add_argument("--dino", default=DINO, help=f"{where} (default: {DINO})")
    group.add_argument("--dinov2", default=DINOV2, help=f"{where}, or {NONE} (default: {DINOV2})")
    group.add_argument(
        "--fidelity", choices=FIDELITIES, default="dino", help="what is compared with CLIP-T (default: dino)"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(";") if name.strip()))


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(sorted({float(each) for each in text.split(",")}))
    except ValueError:
        scales = ()
    if not scales or not all(1 < scale <= 100 for scale in scales):
        raise argparse.ArgumentTypeError(
            f"scales are {text[:60]!r}; write numbers with commas between, each above 1, to 100"
        )
    return scales


def _count(text: str) -> int:
    count = whole(text)
    if not 1 <= count <= 1000:
        raise argparse.ArgumentTypeError(f"count is {count}; it must lie between 1 and 1000")
    return count
