"""Networks that distil sampling to few steps (LCM, Turbo, Lightning, ...): told by name and by file header.

At few steps the weak branch would be noise without them; at many it needs none. Names of them are ordinary
words, too, so a name counts as a whole: what else is in it says whether `lightning` is a method or a motif.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Verdict = Literal["yes", "maybe", "no"]

# From here on, at a scale that guides, a model without an accelerator samples well.
_MANY_STEPS = 20
_NORMAL_SCALE = 3.0
# Up to here somebody who has no accelerator would not go.
_FEW_STEPS = 12

# Words that nothing else is called.
_METHODS = frozenset([
    "lcm", "tcd", "tdd", "pcm", "dmd", "perflow", "instaflow", "sdxs", "causvid", "lightx", "nitrofusion",
    "ufogen", "accvid",
])  # fmt: skip
# Words that subjects and styles are called, too.
_ORDINARY = frozenset([
    "turbo", "lightning", "hyper", "flash", "schnell", "nitro", "slam", "fast", "accel", "accelerator",
    "acceleration", "distill", "distilled", "distillation",
])  # fmt: skip
# Words of a file's name that say nothing of a motif: models, parts of them, formats, versions.
_TECHNICAL = frozenset([
    "lora", "loras", "locon", "lycoris", "dora", "weights", "weight", "pytorch", "adapter", "model",
    "models", "unet", "unit", "text", "encoder", "sdxl", "sdv", "ssd", "stable", "diffusion", "diffusers",
    "pony", "pdxl", "pxl", "illustrious", "ilxl", "noob", "noobai", "animagine", "animate", "flux", "dev",
    "kontext", "krea", "chroma", "kolors", "pixart", "hunyuan", "wan", "qwen", "image", "edit", "video",
    "playground", "cascade", "lumina", "step", "steps", "cfg", "normalcfg", "smallcfg", "lcmlike", "rank",
    "dim", "alpha", "beta", "float", "int", "quant", "ema", "final", "version",
    "ver", "base", "pruned", "converted", "convert", "comfy", "comfyui", "kohya", "webui", "official",
    "mix", "merge", "sd", "xl", "il", "tiny", "mini", "small", "normal", "full", "new",
])  # fmt: skip
_VOCABULARY = _METHODS | _ORDINARY | _TECHNICAL
_LONGEST = max(map(len, _VOCABULARY))

_TITLES = ("ss_output_name", "modelspec.title")
_TEXTS = ("modelspec.description", "modelspec.usage_hint", "modelspec.tags", "ss_training_comment")
# What trainers write of pictures with captions; a distillation has none.
_PICTURES = ("ss_tag_frequency", "ss_dataset_dirs", "ss_datasets")
_EPOCH = re.compile(r"-0\d{5}$")

_READ = 400  # characters of a text; headers of files may hold any amount
_CHUNK = re.compile(r"\d+|[^\W\d_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^A-Za-z]+")


@dataclass(frozen=True)
class Sampling:
    """How a run samples.

    Attributes:
        steps: number of sampling steps, as the user chose it.
        scale: CFG scale.
    """

    steps: int
    scale: float

    @property
    def needs_accelerators(self) -> bool:
        """Whether the weak branch may be noise without an accelerator that the picture is made with."""
        return self.steps < _MANY_STEPS or self.scale < _NORMAL_SCALE

    @property
    def has_few_steps(self) -> bool:
        """Whether so few steps are taken that there is an accelerator, it seems."""
        return self.steps <= _FEW_STEPS

    def __str__(self) -> str:
        return f"{self.steps} step{'s' if self.steps != 1 else ''} and CFG scale {self.scale:g}"


def judge(name: str, metadata: Mapping[str, str]) -> Verdict:
    """Say whether a network is an accelerator; maybe, where that cannot be told.

    Args:
        name: what the user calls it.
        metadata: the text pairs in the header of its file; those of kohya's trainer and modelspec are read.
    """
    found = {_of_title(title) for title in (name, *(metadata.get(key, "") for key in _TITLES))}
    found |= {_of_text(metadata.get(key, "")) for key in _TEXTS}
    verdict: Verdict = "yes" if "yes" in found else "maybe" if "maybe" in found else "no"
    if _has_seen_pictures(name, metadata):
        return "maybe" if verdict == "yes" else "no"
    return verdict


def _of_title(title: str) -> Verdict:
    words = list(_words(title))
    if not _METHODS.isdisjoint(words):
        return "yes"
    is_named, few = not _ORDINARY.isdisjoint(words), _says_few_steps(words)
    if is_named and (few or not any(map(_is_of_motif, words))):
        return "yes"
    return "maybe" if is_named or few else "no"


def _of_text(text: str) -> Verdict:
    """A description may speak of accelerators that the network is used with."""
    words = list(_words(text))
    return "no" if _METHODS.isdisjoint(words) and not _says_few_steps(words) else "maybe"


def _has_seen_pictures(name: str, metadata: Mapping[str, str]) -> bool:
    told = any(metadata.get(key, "").strip() not in ("", "{}", "[]", "None", "null") for key in _PICTURES)
    return told or _EPOCH.search(name) is not None


def _is_of_motif(word: str) -> bool:
    return len(word) > 2 and not word.isdigit() and word not in _VOCABULARY


def _says_few_steps(words: list[str]) -> bool:
    return any(
        unit in ("step", "steps") and number.isdecimal() and 1 <= int(number[:4]) <= _MANY_STEPS
        for number, unit in pairwise(words)
    )


def _words(title: str) -> Iterator[str]:
    """Yield the words of a title in lower case: HyperSD15_8step is hyper, sd, 15, 8, step."""
    for chunk in _CHUNK.findall(title[:_READ]):
        if known := _known_words(chunk.lower()):
            yield from known
            continue
        for part in _CAMEL.findall(chunk):
            yield from _known_words(part.lower()) or [part.lower()]


def _known_words(run: str) -> list[str]:
    """Return known words that a run of letters consists of, such as turbolora; none where it does not."""
    ways: list[list[str] | None] = [[], *[None] * len(run)]
    for end in range(1, len(run) + 1):
        for start in range(max(0, end - _LONGEST), end):
            before = ways[start]
            if before is not None and run[start:end] in _VOCABULARY:
                ways[end] = [*before, run[start:end]]
                break
    return ways[-1] or []
