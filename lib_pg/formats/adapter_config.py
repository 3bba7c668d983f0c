"""Alphas that diffusers keeps beside the tensors, as PEFT's LoraConfig in the file's metadata.

The JSON is one flat object: `unet.lora_alpha`, `unet.alpha_pattern` (alpha by module), `unet.use_rslora`, the
same for `text_encoder.` and `text_encoder_2.`, or without prefix where one model was saved alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lib_pg.formats.errors import NetworkError, printable
from lib_pg.formats.limits import ADAPTER_METADATA_LENGTH_MAX, ALPHA_MAX

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
        root_stabilised: the scale is alpha / sqrt(rank) (rsLoRA) instead of alpha / rank.
    """

    alpha: float | None
    pattern: Mapping[str, tuple[int, float]]
    root_stabilised: bool

    def scale(self, dotted: str, rank: int) -> float:
        """Return the scale of the layer at path `dotted`; 1 where no alpha is known."""
        alpha = self._alpha_of(dotted)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.root_stabilised else rank)

    def _alpha_of(self, dotted: str) -> float | None:
        path = dotted.removeprefix(TEXT_ROOT)
        words = path.split(".")
        ends = [".".join(words[start:]) for start in range(len(words))]
        hits = [self.pattern[end] for end in (*ends, f"^{path}") if end in self.pattern]
        return min(hits)[1] if hits else self.alpha


def read_adapter_configs(name: str, metadata: Mapping[str, str]) -> dict[str, AdapterConfig]:
    """Return the settings by component; empty where the file has none.

    Raises:
        NetworkError: the metadata is too long, no JSON object, or has settings of a wrong type or range.
    """
    text = metadata.get(METADATA_KEY)
    if not text:
        return {}
    values = _parsed(name, text)
    prefixed = any(key.startswith(tuple(PREFIXES.values())) for key in values)
    return {
        component: _config(name, values, prefix if prefixed else "") for component, prefix in PREFIXES.items()
    }


def _parsed(name: str, text: str) -> dict[str, Any]:
    if len(text) > ADAPTER_METADATA_LENGTH_MAX:
        problem = f"has {len(text)} characters, at most {ADAPTER_METADATA_LENGTH_MAX} are allowed"
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
    alpha = values.get(f"{prefix}lora_alpha")
    pattern = values.get(f"{prefix}alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise _error(name, f"has an alpha_pattern of type {type(pattern).__name__}, expected an object")
    alphas = {_path(name, key): _alpha(name, value) for key, value in pattern.items()}
    return AdapterConfig(
        alpha=None if alpha is None else _alpha(name, alpha),
        pattern={path: (place, value) for place, (path, value) in enumerate(alphas.items())},
        root_stabilised=values.get(f"{prefix}use_rslora") is True,
    )


def _alpha(name: str, value: object) -> float:
    if not isinstance(value, float) or not abs(value) <= ALPHA_MAX:
        given = printable(str(value))
        raise _error(name, f"has alpha {given}, expected a number from -{ALPHA_MAX:g} to {ALPHA_MAX:g}")
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
