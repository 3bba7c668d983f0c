"""A small client of the WebUIs' API: pictures as arrays, infotexts as pairs."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.int16]

TITLE = "Personalization Guidance"
GRID = "x/y/z plot"
COMPARE = "personalization guidance: compare"

# The host does not restore a setting that was overridden for one call and is not in its configuration file
# yet. So every call says all of those that any call here changes.
OPTIONS: Mapping[str, Any] = {
    "batch_cond_uncond": True,
    "pad_cond_uncond": False,
    "lora_functional": False,
    "skip_early_cond": 0.0,
    "s_min_uncond": 0.0,
    "token_merging_ratio": 0,
    "token_merging_ratio_hr": 0,
    "hypertile_enable_unet": False,
    "return_grid": True,
    "pg_fast_steps": False,
    "pg_console": "Warnings",
}
_SMALL: Mapping[str, Any] = {
    "negative_prompt": "ugly",
    "seed": 1,
    "steps": 8,
    "width": 128,
    "height": 128,
    "cfg_scale": 7,
    "sampler_name": "Euler",
    "scheduler": "Automatic",
    # What the host's model needs, such as {"scheduler": "Simple"} for Flux.
    **json.loads(os.environ.get("PG_LIVE_VALUES", "{}")),
}
_PAIR = re.compile(r'\s*([^:,]+):\s*("(?:\\.|[^"\\])*"|[^,]*)')


class HostError(Exception):
    """The host's answer was not a picture."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


@dataclass
class Answer:
    """Pictures, each with its infotext, and what we told; a grid comes first where there is one."""

    pictures: list[Pixels]
    infotexts: list[str]
    told: list[str]

    @property
    def picture(self) -> Pixels:
        return self.pictures[0]

    def parameters(self, index: int = 0) -> dict[str, str]:
        """Return the pairs of a picture's infotext."""
        last_line = self.infotexts[index].strip().split("\n")[-1]
        return {key.strip(): value.strip('"') for key, value in _PAIR.findall(last_line)}

    def guidance(self, index: int = 0) -> dict[str, str]:
        """Return those of the pairs that are ours."""
        return {key: value for key, value in self.parameters(index).items() if key.startswith("PG")}


class Host:
    """A running host, started with `--api`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        # The host is this machine or one beside it: no proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._known_options = {*self.call("/sdapi/v1/options"), "sd_model_checkpoint"}

    def call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise HostError(error.code, error.read().decode(errors="replace")) from None

    def has_option(self, name: str) -> bool:
        # Forge lists what has been saved once: ours is there with the extension.
        return name in self._known_options or name.startswith("pg_")

    def know_options(self, names: Iterable[str]) -> None:
        """Send these settings, too, though the API does not list them."""
        self._known_options |= set(names)

    def networks(self) -> list[str]:
        """Return the names of the networks that a prompt can name."""
        return [network["name"] for network in self.call("/sdapi/v1/loras")]

    def samplers(self) -> list[str]:
        """Return the names of the host's samplers."""
        return [sampler["name"] for sampler in self.call("/sdapi/v1/samplers")]

    def scripts(self) -> list[str]:
        """Return the titles of the scripts of txt2img, in lower case as the host has them."""
        return [script["name"] for script in self._scripts()]

    def options(self) -> dict[str, Any]:
        """Return the host's own values of the settings that the calls override."""
        now = self.call("/sdapi/v1/options")
        return {name: now[name] for name in OPTIONS if name in now}

    def state(self) -> dict[str, Any]:
        """Return the hooks on the host's model and a hash of its weights, by the script in `probe`."""
        found: dict[str, Any] = self.call("/pg-live/state")
        return found

    def txt2img(
        self,
        prompt: str,
        *,
        args: Sequence[Any] | Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        always_on: Mapping[str, Sequence[Any]] | None = None,
        **values: Any,
    ) -> Answer:
        """Make small pictures.

        Args:
            args: the extension's arguments, as one dict or in their order; None sends none.
            options: settings of the host for this call.
            always_on: arguments of other scripts, by title.
            values: everything else that the host's API takes; with `init_images` it is img2img.
        """
        scripts = {title: {"args": list(given)} for title, given in (always_on or {}).items()}
        if args is not None:
            scripts[TITLE] = {"args": [dict(args)] if isinstance(args, Mapping) else list(args)}
        if values.get("enable_hr"):  # Forge answers with an error without it, the others ignore it
            values = {"hr_additional_modules": ["Use same choices"], "hr_cfg": 7, **values}
        body = {
            **_SMALL,
            "prompt": prompt,
            "override_settings": {
                name: value for name, value in {**OPTIONS, **(options or {})}.items() if self.has_option(name)
            },
            "alwayson_scripts": scripts,
            **values,
        }
        answer = self.call(f"/sdapi/v1/{'img2img' if 'init_images' in values else 'txt2img'}", body)
        info = json.loads(answer["info"])
        told = info["extra_generation_params"].get(TITLE, [])
        return Answer([_pixels(text) for text in answer["images"]], info["infotexts"], told)

    def grid(self, prompt: str, x: tuple[str, str], y: tuple[str, str], **values: Any) -> Answer:
        """Make an X/Y/Z grid: the grid, then its cells line by line.

        Args:
            x: an axis as the host lists it, and its values separated by commas.
            y: likewise.
        """
        (script,) = [script for script in self._scripts() if script["name"] == GRID]
        labels = [argument["label"] for argument in script["args"]]
        args = [argument["value"] for argument in script["args"]]
        # Axes go by their number, and the host's list of values by label names each of them twice.
        axes = script["args"][labels.index("X type")]["choices"]
        for letter, (axis, points) in {"X": x, "Y": y, "Z": ("Nothing", "")}.items():
            at = labels.index(f"{letter} type")
            args[at : at + 3] = [axes.index(axis), points, []]
        args[labels.index("Include Sub Images")] = True
        args[labels.index("Use text inputs instead of dropdowns")] = True
        return self.txt2img(prompt, script_name=GRID, script_args=args, **values)

    def compare(
        self, prompt: str, methods: Sequence[str], ratios: str = "", scales: str = "", **values: Any
    ) -> Answer:
        """Make a comparison: its sheets, then its cells."""
        return self.txt2img(
            prompt, script_name=COMPARE, script_args=[list(methods), ratios, scales], **values
        )

    def _scripts(self) -> list[dict[str, Any]]:
        return [script for script in self.call("/sdapi/v1/script-info") if not script["is_img2img"]]


def distance(a: Pixels, b: Pixels) -> float:
    """Return the mean difference of two pictures, in levels of 255."""
    return float(np.abs(a - b).mean())


def as_png(pixels: Pixels) -> str:
    """Return a picture as the API takes it."""
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _pixels(text: str) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(np.int16)
