"""A folder of subjects: reference pictures, what they are called, and the fine-tune of each.

    subjects/
      prompts_and_classes.txt      optional: prompts and class words, as in DreamBench
      red_mug/
        00.jpg 01.jpg ...          what the fine-tune learned from
        subject.json               optional: {"class": "mug", "token": "sks", "lora": "mug.safetensors"}
        mug.safetensors            the LoRA, found by itself where it is the only one

or DreamBench++'s: images/KIND/NAME.jpg, captions/KIND/NAME.txt, and loras/KIND/NAME.safetensors beside them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.dreambench.prompts import (
    Prompt,
    Templates,
    filled,
    read_captions,
    read_templates,
    text_of,
    with_token,
)

DREAMBENCH_FILE = "prompts_and_classes.txt"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TOKEN = "sks"
GIVEN = "given"  # the amount of training where nobody says it

_JSON_MAX = 64 << 10
_SUBJECTS_MAX = 1000
_REFERENCES_MAX = 100
# Class words whose prompts are those for live subjects, where nobody says it.
_LIVE = ("cat", "dog", "animal", "person", "man", "woman", "boy", "girl", "bird", "horse")
_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "class": str, "token": str, "live": bool, "lora": str, "strength": (int, float), "checkpoint": str,
    "base_checkpoint": str, "training": str, "prompts": list,
}  # fmt: skip
_MAY_BE_EMPTY = ("class", "token")  # what the folder's file says counts, or there is no token


@dataclass(frozen=True)
class Models:
    """Where a subject's weights are.

    Attributes:
        checkpoint: None for the one that all subjects share.
        lora: None for a full fine-tune.
        strength: of the LoRA.
        base: what a full fine-tune started from; None for the one that all share, if any.
    """

    checkpoint: Path | None = None
    lora: Path | None = None
    strength: float = 1.0
    base: Path | None = None


@dataclass(frozen=True)
class Subject:
    """One subject.

    Attributes:
        name: of its folder.
        references: its pictures.
        word: its class.
        prompts: what is drawn.
        models: its fine-tune.
        training: what its amount of training is called.
    """

    name: str
    references: tuple[Path, ...]
    word: str
    prompts: tuple[Prompt, ...]
    models: Models
    training: str = GIVEN


def read_subjects(folder: Path, prompts: Path | None, own: Path, token: str | None) -> list[Subject]:
    """Read a folder of subjects.

    Args:
        folder: as above.
        prompts: file of prompts, before that in the folder.
        own: file of prompts where neither is there.
        token: for subjects that do not say theirs; None for `sks`, and for none in DreamBench++'s captions.

    Raises:
        UsageError: something is missing, too large, or cannot be read.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"--subjects {str(folder)!r} is no folder; give one with a folder for each subject")
    if (folder / "captions").is_dir() and (folder / "images").is_dir():
        if prompts is not None:
            raise UsageError(
                "the subjects have captions of their own, as in DreamBench++; leave out --prompts"
            )
        found = _with_captions(folder, token or "")
    else:
        beside = folder / DREAMBENCH_FILE
        templates = read_templates(prompts or (beside if beside.is_file() else own))
        if prompts is not None and beside.is_file():
            templates = Templates(templates.objects, templates.live, read_templates(beside).classes)
        folders = [each for each in _listed(folder) if each.is_dir() and not each.name.startswith(".")]
        found = [_subject(each, templates, TOKEN if token is None else token) for each in folders]
    if not found:
        raise UsageError(f"--subjects {str(folder)!r} holds no folder with pictures of a subject")
    if len(found) > _SUBJECTS_MAX:
        raise UsageError(f"--subjects holds {len(found)} subjects; at most {_SUBJECTS_MAX} are evaluated")
    return found


def _subject(folder: Path, templates: Templates, token: str) -> Subject:
    said = _said(folder / "subject.json")
    files = _listed(folder)
    references = tuple(each for each in files if each.suffix.lower() in PICTURES and each.is_file())
    if not 1 <= len(references) <= _REFERENCES_MAX:
        raise UsageError(
            f"subject {folder.name!r} has {len(references)} pictures; put 1 to {_REFERENCES_MAX} into its "
            f"folder ({', '.join(PICTURES)})"
        )
    word = said.get("class", "").strip() or templates.classes.get(folder.name)
    if not word:
        raise UsageError(
            f"subject {folder.name!r} has no class word; write it into {folder.name}/subject.json: "
            '{"class": "dog"}'
        )
    own_token = said.get("token", token)
    if "prompts" in said:
        prompts = [filled(each, own_token, word) for each in _own_prompts(folder, said["prompts"])]
    else:
        prompts = templates.for_subject(own_token, word, said.get("live", word.lower() in _LIVE))
    return Subject(
        folder.name,
        references,
        word,
        _different(prompts),
        _models(folder, files, said),
        said.get("training", GIVEN),
    )


def _with_captions(folder: Path, token: str) -> list[Subject]:
    found = []
    for path in sorted((folder / "captions").glob("*/*.txt")):
        kind, stem = path.parent.name, path.stem
        name = f"{kind}/{stem}"
        pictures = [
            picture
            for suffix in PICTURES
            if (picture := folder / "images" / kind / f"{stem}{suffix}").is_file()
        ]
        if not pictures:
            raise UsageError(f"subject {name!r} has captions but no picture images/{name}.jpg")
        lora = folder / "loras" / kind / f"{stem}.safetensors"
        if not lora.is_file():
            raise UsageError(f"subject {name!r} has no fine-tune; put its LoRA at loras/{name}.safetensors")
        word, captions = read_captions(path)
        prompts = _different([with_token(caption, token, word) for caption in captions])
        found.append(Subject(name, tuple(pictures), word, prompts, Models(lora=lora)))
    return found


def _said(path: Path) -> dict[str, Any]:
    """Return what a subject.json says, with each value of its type; {} where there is none."""
    if not path.exists():
        return {}
    where = f"{path.parent.name}/{path.name}"
    try:
        content = json.loads(text_of(path, _JSON_MAX))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is no JSON: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(content, dict):
        raise UsageError(f'{where} is no JSON object; write for example {{"class": "dog"}}')
    for key, value in content.items():
        if key not in _KEYS:
            raise UsageError(f"{where} has {key[:40]!r}, which is unknown; choose from {', '.join(_KEYS)}")
        boolean = isinstance(value, bool) and _KEYS[key] is not bool
        bad_text = isinstance(value, str) and not (
            _is_text(value, 500) and (value.strip() or key in _MAY_BE_EMPTY)
        )
        if boolean or not isinstance(value, _KEYS[key]) or bad_text:
            raise UsageError(f"{where} has a value for {key!r} that cannot be used: {str(value)[:60]!r}")
    return content


def _is_text(text: str, length: int) -> bool:
    """Say whether a text is short and whole: JSON can spell a NUL and half of a surrogate pair."""
    bad = (letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)
    return len(text) <= length and not any(bad)


def _different(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Return prompts without those that are drawn alike: each makes one picture a seed."""
    return tuple({prompt.told: prompt for prompt in reversed(prompts)}.values())[::-1]


def _own_prompts(folder: Path, prompts: list[Any]) -> list[str]:
    if not 1 <= len(prompts) <= 1000 or not all(
        isinstance(each, str) and each.strip() and _is_text(each, 1000) for each in prompts
    ):
        raise UsageError(f"{folder.name}/subject.json: prompts must be a list of 1 to 1000 short texts")
    return list(dict.fromkeys(prompts))


def _models(folder: Path, files: list[Path], said: Mapping[str, Any]) -> Models:
    others = [
        os.path.realpath(folder / said[key]) for key in ("checkpoint", "base_checkpoint") if key in said
    ]
    networks = [each for each in files if each.suffix == ".safetensors"]
    weights = [each for each in networks if os.path.realpath(each) not in others]
    fewest = 0 if "checkpoint" in said else 1
    if "lora" not in said and not fewest <= len(weights) <= 1:
        raise UsageError(
            f"subject {folder.name!r} has {len(weights)} .safetensors files; name its fine-tune in "
            f'{folder.name}/subject.json: {{"lora": "FILE"}} or {{"checkpoint": "PATH"}}'
        )
    lora = said.get("lora") or next((each.name for each in weights), None)
    strength = said.get("strength", 1.0)
    if not -100 <= strength <= 100:
        raise UsageError(
            f"{folder.name}/subject.json: strength is {str(strength)[:60]}; it must lie between -100 and 100"
        )
    paths = {name: said.get(name) for name in ("checkpoint", "base_checkpoint")} | {"lora": lora}
    there = {name: None if path is None else folder / path for name, path in paths.items()}
    for name, path in there.items():
        if path is not None and not os.path.exists(path):
            raise UsageError(f"subject {folder.name!r}: {name} {str(path)!r} does not exist")
    return Models(there["checkpoint"], there["lora"], float(strength), there["base_checkpoint"])


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{str(folder)!r} cannot be read: {error.strerror or error}") from error
