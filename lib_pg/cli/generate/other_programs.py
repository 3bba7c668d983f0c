"""Pictures of Fooocus and SwarmUI: their JSON as parameters with the WebUIs' keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.png_text import Parameters, PngTextError, parse

_SAMPLERS = {
    "euler": "Euler", "euler_ancestral": "Euler a", "heun": "Heun", "dpm_2": "DPM2", "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_2m_sde_gpu": "DPM++ 2M SDE", "ddim": "DDIM", "uni_pc": "UniPC",
    "lcm": "LCM",
}  # fmt: skip
# Their key and ours. Whatever is not here keeps its name, and is named as not used.
_FOOOCUS = {
    "steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type", "guidance_scale": "CFG scale",
    "seed": "Seed", "resolution": "Size", "base_model": "Model", "base_model_hash": "Model hash",
    "clip_skip": "Clip skip", "vae": "VAE", "version": "Version",
}  # fmt: skip
_SWARM = {
    "steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type", "cfgscale": "CFG scale",
    "seed": "Seed", "model": "Model", "vae": "VAE", "swarm_version": "Version",
    "variationseed": "Variation seed", "variationseedstrength": "Variation seed strength",
}  # fmt: skip
# What the rest of the text says again, or what changes no picture.
_NO_MATTER = {
    "prompt", "negative_prompt", "negativeprompt", "loras", "loraweights", "width", "height", "images",
    "metadata_scheme", "created_by", "full_prompt", "full_negative_prompt", "aspectratio",
    "automaticvae",
}  # fmt: skip
_EMPTY = ("", "None", "none", "[]", "{}", "False", "false", "0", "Default (model)")


def parameters_of(text: str) -> Parameters:
    """Return what the text of a picture says, whichever program wrote it.

    Raises:
        UsageError: it is JSON of another kind, damaged or too long.
    """
    if not text.lstrip().startswith("{"):
        return _webui(text)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise UsageError("the picture's parameters are nested too deeply to be read") from error
    except ValueError:
        return _webui(text)  # a prompt may begin with a brace
    if isinstance(content.get("sui_image_params"), dict):
        return _swarm(content["sui_image_params"])
    if "prompt" in content and ("metadata_scheme" in content or "base_model" in content):
        return _fooocus(content)
    keys = ", ".join(list(content)[:5])
    raise UsageError(
        f"the picture's parameters are JSON of an unknown program (with {keys[:200]}); give options"
    )


def _webui(text: str) -> Parameters:
    try:
        return parse(text)
    except PngTextError as error:
        raise UsageError(str(error)) from error


def _fooocus(content: Mapping[str, Any]) -> Parameters:
    pairs = _pairs(content, _FOOOCUS)
    size = re.findall(r"\d+", pairs.get("Size", ""))
    if len(size) == 2:
        pairs["Size"] = "x".join(size)
    networks = [
        each for each in _listed(content.get("loras")) if isinstance(each, (list, tuple)) and len(each) > 1
    ]
    tags = [_tag(each[0], each[1]) for each in networks]
    hashes = [f"{_stem(each[0])}: {each[2]}" for each in networks if len(each) > 2]
    if hashes:
        pairs["Lora hashes"] = ", ".join(hashes)
    return _parameters(content.get("prompt"), content.get("negative_prompt"), tags, pairs)


def _swarm(content: Mapping[str, Any]) -> Parameters:
    pairs = _pairs(content, _SWARM)
    if "width" in content and "height" in content:
        pairs["Size"] = f"{content['width']}x{content['height']}"
    names, weights = _listed(content.get("loras")), _listed(content.get("loraweights"))
    weights += [1] * (len(names) - len(weights))
    tags = [_tag(name, weight) for name, weight in zip(names, weights, strict=False)]
    return _parameters(content.get("prompt"), content.get("negativeprompt"), tags, pairs)


def _pairs(content: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, str]:
    pairs = {keys.get(key, key): _text(value) for key, value in content.items() if not _no_matter(key)}
    pairs = {key: value for key, value in pairs.items() if value not in _EMPTY or key == "Seed"}
    if "Sampler" in pairs:
        pairs["Sampler"] = _SAMPLERS.get(pairs["Sampler"], pairs["Sampler"])
    if "Model" in pairs:
        pairs["Model"] = _stem(pairs["Model"])
    return pairs


def _no_matter(key: str) -> bool:
    return key in _NO_MATTER or key.startswith("lora_combined_")


def _parameters(prompt: Any, negative: Any, tags: list[str], pairs: Mapping[str, str]) -> Parameters:
    return Parameters(" ".join([*([_text(prompt)] if prompt else []), *tags]), _text(negative or ""), pairs)


def _tag(name: Any, weight: Any) -> str:
    return f"<lora:{_stem(name)}:{_text(weight)}>"


def _stem(name: Any) -> str:
    plain = PurePosixPath(_text(name).replace("\\", "/")).name.removesuffix(".safetensors")
    return re.sub(r"[<>:,=]", "_", plain)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
