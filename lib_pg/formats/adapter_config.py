"""Alphas that are kept beside the tensors: PEFT's config in the file's metadata, or in the file next to it.

diffusers writes metadata, one flat JSON object: `unet.lora_alpha`, `unet.alpha_pattern` (alpha by module),
`unet.use_rslora`, the same for `text_encoder.` and `text_encoder_2.`, or without prefix where one model was
saved alone. PEFT's own `save_pretrained` writes `adapter_config.json` beside `adapter_model.safetensors`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_pg.deltas.limits import NUMBER_MAX
from lib_pg.formats.errors import NetworkError, printable
from lib_pg.formats.limits import ADAPTER_METADATA_LENGTH_MAX

# What PEFT calls the two files of a network.
ADAPTER_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
METADATA_KEY = "lora_adapter_metadata"
PREFIXES = {"unet": "unet.", "te1": "text_encoder.", "te2": "text_encoder_2."}
TEXT_ROOT = "text_model."
ADVICE = "save the network again with diffusers, or choose another file"
_LITERAL = re.compile(r"[\w.]+")


@dataclass(frozen=True)
class AdapterConfig:
    """What PEFT needs to scale the layers of one component.

    Attributes:
        alpha: numerator of the scale, unless the pattern names another; None where the file has none.
        pattern: precedence and alpha by module path, or by the dotted end of one; '^' in front means only the
            whole path.
        rank: denominator of layers whose factors have none (LoKr of whole matrices), unless a pattern names
            another.
        rank_pattern: as `pattern`.
        root_stabilised: the scale is alpha / sqrt(rank) (rsLoRA) instead of alpha / rank.
    """

    alpha: float | None
    pattern: Mapping[str, tuple[int, float]]
    rank: float | None
    rank_pattern: Mapping[str, tuple[int, float]]
    root_stabilised: bool

    def scale(self, dotted: str, rank: int | None) -> float:
        """Return the scale of the layer at path `dotted`; 1 where no alpha or no rank is known.

        Args:
            rank: its factors' own; None where they have none.
        """
        alpha = _of(dotted, self.pattern, self.alpha)
        divisor = rank or _of(dotted, self.rank_pattern, self.rank)
        if alpha is None or not divisor or divisor < 0:
            return 1.0
        return alpha / (math.sqrt(divisor) if self.root_stabilised else divisor)


def _of(dotted: str, pattern: Mapping[str, tuple[int, float]], default: float | None) -> float | None:
    path = dotted.removeprefix(TEXT_ROOT)
    words = path.split(".")
    ends = [".".join(words[start:]) for start in range(len(words))]
    hits = [pattern[end] for end in (*ends, f"^{path}") if end in pattern]
    return min(hits)[1] if hits else default


def read_adapter_configs(name: str, metadata: Mapping[str, str], path: Path) -> dict[str, AdapterConfig]:
    """Return the settings by component; empty where there are none.

    Args:
        metadata: the network file's own.
        path: the network file, for the config next to it.

    Raises:
        NetworkError: the settings are too long, no JSON object, or have a wrong type or range.
    """
    text = metadata.get(METADATA_KEY) or _beside(name, path)
    if not text:
        return {}
    values = _parsed(name, text)
    prefixed = any(key.startswith(tuple(PREFIXES.values())) for key in values)
    return {
        component: _config(name, values, prefix if prefixed else "") for component, prefix in PREFIXES.items()
    }


def _beside(name: str, path: Path) -> str:
    """Return the text of PEFT's config beside PEFT's network file; empty where there is none."""
    config = path.with_name(CONFIG_NAME)
    if path.name != ADAPTER_NAME or not config.is_file():
        return ""
    try:
        with config.open(encoding="utf-8") as file:
            return file.read(ADAPTER_METADATA_LENGTH_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise _error(name, f"in {CONFIG_NAME} cannot be read ({type(error).__name__})") from error


def _parsed(name: str, text: str) -> dict[str, Any]:
    if len(text) > ADAPTER_METADATA_LENGTH_MAX:
        problem = f"has more than {ADAPTER_METADATA_LENGTH_MAX} characters"
        raise _error(name, problem)
    try:
        # Integers as floats: a number of a million digits must not cost a second.
        values = json.loads(text, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise _error(name, "is not valid JSON") from error
    if not isinstance(values, dict):
        raise _error(name, f"is a JSON {type(values).__name__}, expected an object")
    return values


def _config(name: str, values: Mapping[str, Any], prefix: str) -> AdapterConfig:
    alpha = values.get(f"{prefix}lora_alpha", values.get(f"{prefix}alpha"))
    rank = values.get(f"{prefix}r")
    return AdapterConfig(
        alpha=None if alpha is None else _number(name, "alpha", alpha),
        pattern=_pattern(name, "alpha", values.get(f"{prefix}alpha_pattern")),
        rank=None if rank is None else _number(name, "rank", rank),
        rank_pattern=_pattern(name, "rank", values.get(f"{prefix}rank_pattern")),
        root_stabilised=values.get(f"{prefix}use_rslora") is True,
    )


def _pattern(name: str, what: str, pattern: object) -> dict[str, tuple[int, float]]:
    pattern = pattern or {}
    if not isinstance(pattern, dict):
        raise _error(
            name, f"has {_article(what)}_pattern of type {type(pattern).__name__}, expected an object"
        )
    numbers = {_path(name, key): _number(name, what, value) for key, value in pattern.items()}
    return {path: (place, value) for place, (path, value) in enumerate(numbers.items())}


def _article(what: str) -> str:
    return f"an {what}" if what == "alpha" else f"a {what}"


def _number(name: str, what: str, value: object) -> float:
    if not isinstance(value, float) or not abs(value) <= NUMBER_MAX:
        given = printable(str(value))
        raise _error(name, f"has {what} {given}, expected a number from -{NUMBER_MAX:g} to {NUMBER_MAX:g}")
    return value


def _path(name: str, pattern: str) -> str:
    """Return a key of alpha_pattern as a path; to PEFT it is a regular expression, which no file may run."""
    anchor = "^" if pattern.startswith("^") else ""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if not _LITERAL.fullmatch(plain):
        shown = printable(pattern)
        raise _error(name, f"names modules by a regular expression ({shown}), expected module paths")
    return anchor + plain.removeprefix(TEXT_ROOT)


def _error(name: str, problem: str) -> NetworkError:
    return NetworkError(name, f"its adapter metadata {problem}", ADVICE)
