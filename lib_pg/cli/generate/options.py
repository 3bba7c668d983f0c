"""The options of `generate`: light to import, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pg.cli.devices import add_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import DENOISE_DEFAULT, DTYPES, Job
from lib_pg.cli.generate.networks import STRENGTHS, LoraFile, called
from lib_pg.cli.paths import BUNDLED_PIPELINE
from lib_pg.cli.samplers import SAMPLERS, SCHEDULE_TYPES, schedule_type_for, split_sampler
from lib_pg.cli.whole import whole
from lib_pg.controls import Control
from lib_pg.prompt import WEAK_STRENGTHS, Own
from lib_pg.settings import CONTROLS, DEFAULTS, Settings, SettingsError

# Hires fix belongs to WebUIs; the base checkpoint is given as a file.
_SETTINGS_HERE = (
    "mode",
    "weak_ratio",
    "weak_prompt",
    "schedule",
    "weak_ratio_end",
    "start",
    "end",
    "outside",
    "networks",
)
_JOB_OPTIONS = (
    "prompt",
    "negative",
    "steps",
    "sampler",
    "schedule_type",
    "scale",
    "seed",
    "width",
    "height",
    "batch",
    "dtype",
    "weak_memory",
    "fast",
    "denoise",
)
# Files that pictures name by their hashes: given, what the picture says of them is read.
_FILES = ("vae", "init_image", "mask")
_LORA_FORM = "PATH[:STRENGTH][:pg=RATIO][:weak=STRENGTH]"
_NUMBER = re.compile(r"\s*[-+]?[.\d][-+.\deE]*\s*")
_NAMED = re.compile(r"\s*([A-Za-z]+)\s*=([^/\\]*)")
_NAMES = ("te", "unet", "pg", "weak")


def add_command(commands: Any) -> None:
    """Add the subcommand to an argparse subparsers object."""
    parser = commands.add_parser(
        "generate",
        help="make pictures from a checkpoint and LoRA files",
        description="Make pictures with personalization guidance. PNGs carry their parameters as in WebUIs.",
        epilog="example: python -m lib_pg generate --checkpoint sd15.safetensors --lora dog.safetensors:0.9 "
        '--prompt "a sks dog on a beach" --weak-ratio 0.6 --scale 7.5',
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of the command to a parser."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--checkpoint", type=Path, default=BUNDLED_PIPELINE, metavar="PATH",
        help="SD 1.x, SD 2.x or SDXL: diffusers folder or .safetensors file (default: a bundled tiny model)",
    )  # fmt: skip
    files.add_argument(
        "--config", type=Path, metavar="FOLDER",
        help="diffusers folder with the configuration for a single-file checkpoint, to work offline",
    )  # fmt: skip
    files.add_argument(
        "--lora", type=_lora, action="append", default=[], metavar=_LORA_FORM,
        help="network file or PEFT folder, its strength (default 1; or two, TEXT_ENCODER:UNET), and its own "
        "weak ratio, or its own strength in the weak branch (-2 to 2); may be given more than once",
    )  # fmt: skip
    files.add_argument(
        "--base-checkpoint", type=Path, metavar="PATH",
        help="what the checkpoint, a full fine-tune, started from: diffusers folder or .safetensors file",
    )  # fmt: skip
    files.add_argument(
        "--vae", type=Path, metavar="PATH",
        help="another VAE than the checkpoint's: .safetensors file or diffusers folder",
    )  # fmt: skip
    files.add_argument(
        "--init-image", type=Path, metavar="PICTURE",
        help="start from this PNG, JPEG or WebP instead of noise alone",
    )  # fmt: skip
    files.add_argument(
        "--mask", type=Path, metavar="PICTURE",
        help="draw the white parts of --init-image anew and keep the black and transparent ones to the "
        "pixel; grey blends",
    )  # fmt: skip
    files.add_argument(
        "--out", type=Path, default=Path("outputs"), metavar="FOLDER", help="where PNGs go (default: outputs)"
    )
    files.add_argument(
        "--from-png", type=Path, metavar="PNG",
        help="repeat the picture of this PNG, JPEG or WebP, of this program or a WebUI; give its checkpoint "
        "and networks, other options change it",
    )  # fmt: skip
    _add_job_options(parser.add_argument_group("picture"))
    guidance = parser.add_argument_group("guidance")
    for name in _SETTINGS_HERE:
        _add_setting(guidance, name, CONTROLS[name])


def given_by(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line decides: fields of a job, and settings, by name."""
    names = (*_JOB_OPTIONS, *_SETTINGS_HERE)
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.base_checkpoint is not None:
        given["base_checkpoint"] = called(options.base_checkpoint)
    if options.init_image is None and "denoise" in given:
        raise UsageError("--denoise says how much of a picture is drawn anew; give it with --init-image")
    if "sampler" in given:
        given["sampler"], named = split_sampler(given["sampler"])
        if named:
            given.setdefault("schedule_type", named)
    return given


def files_given(options: argparse.Namespace) -> frozenset[str]:
    """Return which of the files that pictures name beside checkpoint and networks are given."""
    return frozenset(name for name in _FILES if getattr(options, name) is not None)


def job_from(given: Mapping[str, Any], base: Mapping[str, Any]) -> Job:
    """Return the job of a picture's fields with what the command line decides put over them.

    Raises:
        UsageError: a value is out of range.
    """
    chosen = {name: value for name, value in given.items() if name in CONTROLS}
    fields = {**base, **{name: value for name, value in given.items() if name not in CONTROLS}}
    settings = fields.get("settings", Job.settings)
    try:
        # A picture that was made without guidance is repeated without, unless a control is asked for.
        switch = {"enabled": True} if chosen else {}
        fields["settings"] = Settings.from_dict({**settings.to_dict(), **chosen, **switch})
    except SettingsError as error:
        raise UsageError(str(error)) from error
    if fields.get("schedule_type") and fields.get("sampler", Job.sampler) in SAMPLERS:
        fields["schedule_type"] = schedule_type_for(
            fields.get("sampler", Job.sampler), fields["schedule_type"]
        )
    return Job(**fields)


def _add_job_options(group: Any) -> None:
    group.add_argument("--prompt", help="what to draw")
    group.add_argument(
        "--negative", metavar="PROMPT", help="negative prompt; used by CFG and by --weak-prompt Negative"
    )
    group.add_argument("--scale", type=float, help=f"CFG scale s, 0 to 100 (default: {Job.scale})")
    group.add_argument("--steps", type=int, help=f"sampling steps, 1 to 1000 (default: {Job.steps})")
    group.add_argument(
        "--sampler",
        "--scheduler",
        metavar="NAME",
        help=f"{', '.join(SAMPLERS)} (default: {Job.sampler})",
    )
    group.add_argument(
        "--schedule-type",
        metavar="NAME",
        help=f"{', '.join(SCHEDULE_TYPES)} or Automatic, where the sampler can (default: the model's own)",
    )
    group.add_argument("--seed", type=int, help="seed of the first picture (default: a random one)")
    group.add_argument("--width", type=int, metavar="PIXELS", help="default: the model's own")
    group.add_argument("--height", type=int, metavar="PIXELS", help="default: the model's own")
    group.add_argument("--batch", type=int, help="pictures made at once, 1 to 64 (default: 1)")
    group.add_argument("--count", type=_count, default=1, help="batches made one after another (default: 1)")
    group.add_argument("--dtype", choices=DTYPES, help=f"precision (default: {Job.dtype})")
    group.add_argument(
        "--weak-memory", type=int, metavar="RANK",
        help="cut the differences from --base-checkpoint to this rank, for less memory; 0: exact (default)",
    )  # fmt: skip
    group.add_argument(
        "--fast", action="store_const", const=True,
        help="spend memory, twice the size of the linear layers that networks change, on steps that take a "
        "GPU less time to start; with --schedule Constant",
    )  # fmt: skip
    group.add_argument(
        "--denoise", type=float, metavar="SHARE",
        help=f"how much of --init-image is drawn anew, 0 to 1 (default: {DENOISE_DEFAULT})",
    )  # fmt: skip
    add_device(group)


def _add_setting(group: Any, name: str, control: Control) -> None:
    number = control.kind == "number"
    allowed = f"{control.minimum:g} to {control.maximum:g}; " if number else ""
    default = f" (default: {DEFAULTS[name]})" if DEFAULTS[name] != "" else ""
    group.add_argument(
        f"--{name.replace('_', '-')}",
        type=float if number else str,
        choices=control.choices or None,
        metavar=None if control.choices else ("RATIO" if number else "NAMES"),
        help=f"{allowed}{control.help}{default}",
    )


def _lora(text: str) -> LoraFile:
    path, numbers, named = _split_lora(text)
    unknown = [key for key in named if key not in _NAMES]
    if not path or unknown or len(numbers) > 2:
        problem = f"{unknown[0]}= is unknown" if unknown else "more than two strengths" if path else "no path"
        raise argparse.ArgumentTypeError(f"{text!r}: {problem}; expected {_LORA_FORM}")
    te = named.get("te", numbers[0] if numbers else "1" if "unet" in named else None)
    unet = named.get("unet", numbers[1] if len(numbers) > 1 else te)
    strength = _within(text, "the strength", unet, *STRENGTHS)
    te_strength = _within(text, "the strength", te, *STRENGTHS)
    ratio = _within(text, "pg", named.get("pg"), 0.0, 1.0)
    own = Own(ratio, _within(text, "weak", named.get("weak"), *WEAK_STRENGTHS))
    return LoraFile(Path(path), strength, None if te_strength == strength else te_strength, own)


def _split_lora(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Return the path, the numbers after it, and the named arguments; a path may hold colons itself."""
    items = text.split(":")
    first = len(items)
    while first > 1 and (_NUMBER.fullmatch(items[first - 1]) or _NAMED.fullmatch(items[first - 1])):
        first -= 1
    pairs = [item.partition("=") for item in items[first:]]
    named = {key.strip().lower(): value.strip() for key, sign, value in pairs if sign}
    return ":".join(items[:first]), [number for number, sign, _ in pairs if not sign], named


def _within(text: str, what: str, number: str | None, low: float, high: float) -> float | None:
    if number is None:
        return None
    try:
        value = float(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {what} is {number!r}; expected a number") from error
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {what} is {number}; it must lie between {low:g} and {high:g}"
        )
    return value


def _count(text: str) -> int:
    count = whole(text)
    if not 1 <= count <= 10_000:
        raise argparse.ArgumentTypeError(f"count is {count}; it must lie between 1 and 10000")
    return count
