"""A picture's parameters as a job: one table says what is used or changes nothing; all else is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import BATCH_MAX, Job
from lib_pg.cli.generate.record import DENOISE, INIT_HASH, MASK_HASH, PROGRAM
from lib_pg.cli.png_text import Parameters
from lib_pg.cli.samplers import SAMPLERS, schedule_type_for, split_sampler
from lib_pg.infotext import WEAK_MEMORY, from_infotext
from lib_pg.settings import CONTROLS, Settings, SettingsError

_SHOWN = 40
_LISTED = 20


@dataclass(frozen=True)
class Picture:
    """What a picture says of how it was made.

    Attributes:
        values: fields of a job, other than its prompts and networks.
        position: its place in its batch.
        model, model_hash: the checkpoint; empty where it does not say.
        lora_hashes: hashes of networks by name.
        notices: sentences on what is not as in the picture.
        file_hashes: what it says of the files that are given, by its keys.
    """

    values: Mapping[str, Any]
    position: int = 0
    model: str = ""
    model_hash: str = ""
    lora_hashes: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    file_hashes: Mapping[str, str] = field(default_factory=dict)


def read_picture(parameters: Parameters, given: Mapping[str, Any], files: Collection[str] = ()) -> Picture:
    """Return what a picture says of a job.

    Args:
        given: fields of the job and settings that options decide; what the picture says of these is not
            read, and may be anything.
        files: which of `vae`, `init_image` and `mask` are given.

    Raises:
        UsageError: a value that is needed is missing or cannot be read.
    """
    pairs = parameters.pairs
    values = {
        name: read(pairs, key)
        for key, (name, read) in _FIELDS.items()
        if name not in given and (key in pairs or name in _NEEDED)
    }
    notices: list[str] = []
    position = _position(pairs, given)
    if "seed" not in given:
        values["seed"] = _whole(pairs, "Seed") - position
    values |= _size(pairs, given)
    values |= _sampler(pairs, given, notices)
    values["settings"] = _settings(pairs, given)
    used = _of_files(pairs, files)
    if "init_image" in files and "denoise" not in given and DENOISE in pairs:
        values["denoise"] = _number(pairs, DENOISE)
    if not pairs.get("Version", "").startswith(PROGRAM):
        notices.append("the picture was made by another program: expect a similar one, not the same")
    if unused := _unused(pairs, used):
        notices.append(f"of the picture's parameters these are not used: {unused}")
    return Picture(
        values, position, pairs.get("Model", ""), pairs.get("Model hash", ""), _hashes(pairs), tuple(notices),
        {key: pairs[key] for key in used if key in pairs},
    )  # fmt: skip


def _whole(pairs: Mapping[str, str], key: str) -> int:
    text = pairs.get(key)
    if text is None or not re.fullmatch(r"\d{1,19}", text, re.ASCII):
        raise _unreadable(key, text, "a whole number")
    return int(text)


def _number(pairs: Mapping[str, str], key: str) -> float:
    text = pairs.get(key)
    if text is None or not re.fullmatch(r"-?\d{0,20}\.?\d{1,40}(e-?\d{1,3})?", text, re.ASCII):
        raise _unreadable(key, text, "a number")
    return float(text)


def _text(pairs: Mapping[str, str], key: str) -> str:
    return pairs[key]


# Parameters that are fields of a job as they are, and how they are read.
_FIELDS: Mapping[str, tuple[str, Callable[[Mapping[str, str], str], Any]]] = {
    "Steps": ("steps", _whole),
    "CFG scale": ("scale", _number),
    "Batch size": ("batch", _whole),
    "Precision": ("dtype", _text),
    WEAK_MEMORY: ("weak_memory", _whole),
}
_NEEDED = ("steps", "scale")
# Used as well: several make one field, or are compared with the files that are given.
_TOGETHER = (
    "Seed", "Batch pos", "Size", "Sampler", "Schedule type", "Scheduler", "Model", "Model hash",
    "Lora hashes",
)  # fmt: skip
_OF_GUIDANCE = tuple(key for control in CONTROLS.values() if (key := control.infotext_key))
# Those that never change a picture, and values of others that do not.
_WITHOUT_EFFECT = ("Version", "User", "Created Date", "TI hashes", "Hashes", "Parser", "Backend", "App")
_NEUTRAL = {
    "Clip skip": ("1",), "ENSD": ("0",), "RNG": ("CPU",), "Variation seed strength": ("0", "0.0"),
    "Token merging ratio": ("0",), "Face restoration": ("None",), "VAE": ("Automatic", "None"),
}  # fmt: skip


# What a picture says of each file; in each the hash comes first.
_OF_FILES = {"init_image": (INIT_HASH, DENOISE), "mask": (MASK_HASH,), "vae": ("VAE hash", "VAE")}


def _of_files(pairs: Mapping[str, str], files: Collection[str]) -> list[str]:
    """Return the keys that belong to the files that are given.

    Raises:
        UsageError: the picture was made from another that is not given.
    """
    for name in ("init_image", "mask"):
        if _OF_FILES[name][0] in pairs and name not in files:
            raise UsageError(
                f"the picture was made from another; give --{name.replace('_', '-')} PICTURE, whose hash is "
                f"{pairs[_OF_FILES[name][0]][:_SHOWN]}"
            )
    return [key for name in files for key in _OF_FILES[name]]


def _unused(pairs: Mapping[str, str], more: Collection[str]) -> str:
    used = {*more, *_FIELDS, *_TOGETHER, *_OF_GUIDANCE, *_WITHOUT_EFFECT}
    left = [
        f"{_cut(key)} {_cut(value)}"
        for key, value in pairs.items()
        if key not in used and value not in _NEUTRAL.get(key, ())
    ]
    more = f" and {len(left) - _LISTED} more" if len(left) > _LISTED else ""
    return ", ".join(left[:_LISTED]) + more


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _position(pairs: Mapping[str, str], given: Collection[str]) -> int:
    position = _whole(pairs, "Batch pos") if "Batch pos" in pairs else 0
    if position >= BATCH_MAX or ("seed" not in given and position > _whole(pairs, "Seed")):
        raise UsageError(f"the picture's parameters have Batch pos {position}, which fits no batch")
    return position


def _size(pairs: Mapping[str, str], given: Collection[str]) -> dict[str, int]:
    wanted = [name for name in ("width", "height") if name not in given]
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", pairs.get("Size", ""))
    if wanted and size is None:
        raise _unreadable("Size", pairs.get("Size"), "WIDTHxHEIGHT", "--width and --height")
    return {name: int(size[1 if name == "width" else 2]) for name in wanted} if size else {}


def _sampler(pairs: Mapping[str, str], given: Mapping[str, Any], notices: list[str]) -> dict[str, str]:
    """Return sampler and schedule type, with a notice where the sampler cannot follow the picture's."""
    own, named = split_sampler(pairs.get("Sampler", Job.sampler))
    sampler = given.get("sampler", own)
    if sampler not in SAMPLERS or "schedule_type" in given:
        return {"sampler": sampler}
    kind = schedule_type_for(sampler, named or pairs.get("Schedule type") or pairs.get("Scheduler") or "")
    if kind and kind not in SAMPLERS[sampler].schedule_types:
        notices.append(f"schedule type {kind[:_SHOWN]} is not used: {sampler} cannot follow it here")
        kind = ""
    return {"sampler": sampler, "schedule_type": kind}


def _settings(pairs: Mapping[str, str], given: Collection[str]) -> Settings:
    left = {
        key: pairs[key]
        for name, control in CONTROLS.items()
        if (key := control.infotext_key) and key in pairs and name not in given
    }
    try:
        return from_infotext(left) or Settings()
    except SettingsError as error:
        raise UsageError(f"the picture's parameters cannot be used: {error}") from error


def _hashes(pairs: Mapping[str, str]) -> dict[str, str]:
    listed = (each.partition(": ") for each in pairs.get("Lora hashes", "").split(", "))
    return {name: digest for name, _, digest in listed if name and re.fullmatch("[0-9a-f]{10,12}", digest)}


def _unreadable(key: str, text: str | None, expected: str, option: str = "") -> UsageError:
    option = option or {"CFG scale": "--scale", "Batch size": "--batch"}.get(key, f"--{key.lower()}")
    said = "have no" if text is None else "have"
    shown = key if text is None else f"{key} {text[:60]!r}"
    return UsageError(f"the picture's parameters {said} {shown}; expected {expected}; give {option}")
