"""The `parameters` text that carries a job in a PNG, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lib_pg import __version__
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import Job, LoraUse
from lib_pg.cli.png_text import Parameters, PngTextError, compose, parse
from lib_pg.infotext import WEAK_MEMORY, from_infotext, to_infotext
from lib_pg.prompt import Own
from lib_pg.settings import NO_CHECKPOINT, Settings, SettingsError

_LORA_TAGS = re.compile(r"(?: ?<lora:[^<>]*>)+$")
_LORA_TAG = re.compile(r"<lora:([^<>:]+):([^<>:]+)(?::pg=([^<>:]+))?(?::weak=([^<>:]+))?>")
_MAX_LORAS = 100


@dataclass(frozen=True)
class Provenance:
    """What a PNG says about the files: names and short hashes, never paths."""

    model: str
    model_hash: str
    lora_hashes: Mapping[str, str] = field(default_factory=dict)


def to_text(job: Job, files: Provenance, position: int, guided: bool) -> str:
    """Return the `parameters` text of the picture at `position` in the batch of `job`.

    Args:
        guided: whether guidance ran; its keys are left out where it did not.

    Raises:
        UsageError: the text would not read back as it is, because of what the prompts hold.
    """
    pairs = {
        "Steps": str(job.steps),
        "Sampler": job.sampler,
        "CFG scale": f"{job.scale!r}",
        "Seed": str(job.seed + position),
        "Size": f"{job.width}x{job.height}",
        "Model hash": files.model_hash,
        "Model": files.model,
    }
    if job.batch > 1:
        pairs |= {"Batch size": str(job.batch), "Batch pos": str(position)}
    if files.lora_hashes:
        pairs["Lora hashes"] = ", ".join(f"{name}: {digest}" for name, digest in files.lora_hashes.items())
    if guided:
        pairs |= to_infotext(job.settings)
        if job.weak_memory and job.settings.base_checkpoint != NO_CHECKPOINT:
            pairs[WEAK_MEMORY] = str(job.weak_memory)
    pairs |= {"Precision": job.dtype, "Version": f"personalization-guidance {__version__}"}
    prompt = (
        " ".join([job.prompt, *(lora.tag() for lora in job.loras)]).strip(" ") if job.loras else job.prompt
    )
    try:
        return compose(prompt, job.negative, pairs)
    except PngTextError as error:
        raise UsageError(str(error)) from error


def from_text(text: str) -> tuple[Job, Provenance, int]:
    """Return the job a picture was made by, its files, and its position in the batch.

    Raises:
        UsageError: the text is not one this program can repeat.
    """
    try:
        parameters = parse(text)
    except PngTextError as error:
        raise UsageError(str(error)) from error
    pairs = parameters.pairs
    position = _whole(pairs, "Batch pos", 0)
    width, height = _size(pairs)
    prompt, loras = _split_loras(parameters)
    try:
        settings = from_infotext(pairs) or Settings()
    except SettingsError as error:
        raise UsageError(f"the picture's parameters cannot be used: {error}") from error
    if not 0 <= position < 64 or position > _whole(pairs, "Seed"):
        raise UsageError(f"the picture's parameters have Batch pos {position}, which fits no batch")
    job = Job(
        prompt=prompt,
        negative=parameters.negative,
        steps=_whole(pairs, "Steps"),
        sampler=pairs.get("Sampler", Job.sampler),
        scale=_number(pairs, "CFG scale"),
        seed=_whole(pairs, "Seed") - position,
        width=width,
        height=height,
        batch=_whole(pairs, "Batch size", 1),
        dtype=pairs.get("Precision", Job.dtype),
        settings=settings,
        loras=loras,
        weak_memory=_whole(pairs, WEAK_MEMORY, 0),
    )
    return job, _provenance(pairs), position


def _split_loras(parameters: Parameters) -> tuple[str, tuple[LoraUse, ...]]:
    tags = _LORA_TAGS.search(parameters.prompt)
    if tags is None:
        return parameters.prompt, ()
    found = _LORA_TAG.findall(tags.group())
    if len(found) != tags.group().count("<") or len(found) > _MAX_LORAS:
        raise UsageError(f"the picture's networks cannot be read: {tags.group()[:200]!r}")
    loras = []
    for name, *numbers in found:
        pairs = dict(zip(("strength", "pg", "weak"), numbers, strict=True))
        own = Own(*(_number(pairs, key) if pairs[key] else None for key in ("pg", "weak")))
        loras.append(LoraUse(name, _number(pairs, "strength"), own))
    return parameters.prompt[: tags.start()], tuple(loras)


def _provenance(pairs: Mapping[str, str]) -> Provenance:
    hashes = dict(re.findall(r"([^:,]+): ([0-9a-f]{10})(?:, |$)", pairs.get("Lora hashes", "")))
    return Provenance(pairs.get("Model", ""), pairs.get("Model hash", ""), hashes)


def _size(pairs: Mapping[str, str]) -> tuple[int, int]:
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", pairs.get("Size", ""))
    if size is None:
        raise UsageError(f"the picture's parameters have Size {pairs.get('Size')!r}; expected WIDTHxHEIGHT")
    return int(size[1]), int(size[2])


def _whole(pairs: Mapping[str, str], key: str, default: int | None = None) -> int:
    text = pairs.get(key)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,19}", text, re.ASCII):
        raise UsageError(f"the picture's parameters have {key} {text!r}; expected a whole number")
    return int(text)


def _number(pairs: Mapping[str, str], key: str) -> float:
    text = pairs.get(key, "")
    if not re.fullmatch(r"-?\d{1,20}(\.\d{1,40})?(e-?\d{1,3})?", text, re.ASCII):
        raise UsageError(f"the picture's parameters have {key} {text!r}; expected a number")
    return float(text)
