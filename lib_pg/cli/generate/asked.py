"""What the command line asks for, with what it takes from a picture. Light: nothing is loaded yet."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import DENOISE_DEFAULT, Job
from lib_pg.cli.generate.networks import LoraUse, brought_together, hash_key, repeated, tagged
from lib_pg.cli.generate.options import files_given, given_by, job_from
from lib_pg.cli.generate.other_programs import parameters_of
from lib_pg.cli.generate.prompt_syntax import notice
from lib_pg.cli.generate.reading import Picture, read_picture
from lib_pg.cli.hashes import fingerprint, state
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import Parameters, PngTextError
from lib_pg.prompt import split_tags
from lib_pg.settings import NO_CHECKPOINT


@dataclass(frozen=True)
class Asked:
    """A job, and what belongs to it where it repeats a picture.

    Attributes:
        picture: what that picture says; None where there is none.
        position: the only picture of the batch that is wanted, or None for all.
        notices: sentences on what is not as it may be expected.
    """

    job: Job
    picture: Picture | None = None
    position: int | None = None
    notices: tuple[str, ...] = ()


def asked_for(options: argparse.Namespace) -> Asked:
    """Return what a command line asks for; its options win over the picture's parameters.

    Raises:
        UsageError: something is missing, out of range, or cannot be read.
    """
    given = given_by(options)
    found = _parameters(options.from_png)
    picture = read_picture(found, given, files_given(options)) if found else None
    job = job_from(given, _fields(found, picture))
    text, uses, said = _tags(job.prompt)
    # A new prompt without networks: those of the picture stay, where their files are given.
    kept = _tags(found.prompt)[1] if found and not uses and "prompt" in given else []
    loras = brought_together([*uses, *kept], options.lora, picture.lora_hashes if picture else {}, _hash_of)
    said += _without_files(loras, kept)
    loras = tuple(use for use in loras if use.path is not None)
    job = replace(job, prompt=text, loras=loras)
    said += [*repeated(loras), *_other_files(loras, picture), *_not_as_written(job)]
    job = replace(job, scale=max(1.0, job.scale))
    if options.init_image is not None and job.denoise is None:
        job = replace(job, denoise=DENOISE_DEFAULT)
    return Asked(job, picture, _position(picture, job), (*(picture.notices if picture else ()), *said))


def _fields(found: Parameters | None, picture: Picture | None) -> dict[str, Any]:
    """Return the fields of a job that no option decides."""
    fields: dict[str, Any] = {"seed": secrets.randbelow(2**32)}
    if found and picture:
        fields |= {"prompt": found.prompt, "negative": found.negative, **picture.values}
    return fields


def _position(picture: Picture | None, job: Job) -> int | None:
    if picture is None:
        return None
    if picture.position >= job.batch:
        raise UsageError(
            f"the picture was number {picture.position + 1} of its batch; --batch {job.batch} is too small"
        )
    return picture.position


def _parameters(path: Path | None) -> Parameters | None:
    if path is None:
        return None
    try:
        return parameters_of(read_parameters(path))
    except PngTextError as error:
        raise UsageError(str(error)) from error


def _tags(prompt: str) -> tuple[str, list[LoraUse], list[str]]:
    """Return a prompt without its tags, its networks, and what is not used of the tags."""
    text, networks, others = split_tags(prompt)
    said = [network.problem for network in networks if network.problem]
    said += [f"{network.name}: dyn={network.dyn} is not used" for network in networks if network.dyn]
    said += [f"the tag {tag[:60]} is not used; networks are written <lora:name:1>" for tag in others]
    return text, [tagged(network) for network in networks if network.name], said


def _without_files(loras: Sequence[LoraUse], kept: Sequence[LoraUse]) -> list[str]:
    """Say which networks of the picture a new prompt leaves behind.

    Raises:
        UsageError: any other has no file.
    """
    missing = [use.name for use in loras if use.path is None]
    if missing and not kept:
        raise UsageError(f"the prompt asks for network {missing[0]!r}; give its file with --lora PATH")
    return [
        f"network {name!r} of the picture is not used: the new prompt does not ask for it, and its file is "
        "not given"
        for name in missing
    ]


def _other_files(loras: Sequence[LoraUse], picture: Picture | None) -> list[str]:
    wanted = picture.lora_hashes if picture else {}
    pairs = [(use, wanted.get(hash_key(use.name), "")) for use in loras]
    names = dict.fromkeys(
        use.name for use, digest in pairs if use.path and digest and _hash_of(use.path, len(digest)) != digest
    )
    return [f"network {name!r} is another file than the one the picture was made with" for name in names]


def _not_as_written(job: Job) -> list[str]:
    said = [notice(job.prompt, job.negative)]
    settings = job.settings
    if job.scale < 1:
        said.append(f"CFG scale {job.scale:g} is taken as 1: below 1 there is no guidance here")
    elif (
        job.scale > 1
        and job.negative
        and settings.enabled
        and (job.loras or settings.base_checkpoint != NO_CHECKPOINT)  # or else plain CFG reads it
        and (settings.mode, settings.weak_prompt) == ("PG", "Null")
    ):
        said.append("PG reads no negative prompt; --weak-prompt Negative has it read")
    return [each for each in said if each]


def _hash_of(path: Path, digits: int) -> str:
    """Return a file's hash; none where it cannot be read, which is said when it is loaded."""
    return _hash_in_state(path, digits, state(path))


@lru_cache(maxsize=1000)  # a grid asks for the same files in every cell; `serve` lives long
def _hash_in_state(path: Path, digits: int, state: tuple[object, ...]) -> str:
    try:
        return fingerprint(path, digits)
    except OSError:
        return ""
