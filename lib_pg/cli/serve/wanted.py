"""The page's values as a job of `generate`, and what a picture says as values of the page."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate import options as generate
from lib_pg.cli.generate.asked import Asked, asked_for
from lib_pg.cli.generate.networks import LoraFile, called
from lib_pg.cli.generate.other_programs import parameters_of
from lib_pg.cli.generate.reading import read_picture
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import PngTextError
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.page.compare import KEYS, SCRIPT
from lib_pg.prompt import split_tags
from lib_pg.settings import NO_CHECKPOINT, Settings, SettingsError

# The page's own fields, in its order; those of the accordion follow.
FIELDS = (
    "checkpoint", "prompt", "negative", "sampler", "schedule_type", "steps", "scale", "width", "height",
    "batch", "count", "seed",
)  # fmt: skip
# What there is to choose for a comparison.
CHOICES = ("methods", "ratios", "scales")
RANDOM_SEED = -1
MODELS_SIZE = 0
COUNT_MAX = 100


@dataclass(frozen=True)
class Wanted:
    """A request, and the options that `generate` would have been called with for it."""

    asked: Asked
    options: argparse.Namespace

    @property
    def steps(self) -> int:
        """Sampling steps of all batches."""
        return self.asked.job.steps * int(self.options.count)


def wanted(values: Sequence[Any], shelf: Shelf, server: argparse.Namespace) -> Wanted:
    """Return what the page's values ask for.

    Args:
        values: one for each of `FIELDS`, then one for each control of the settings.
        server: the options of `serve`, for the device and precision of all pictures.

    Raises:
        UsageError: a value is out of range, or there is no such file.
    """
    fields = dict(zip(FIELDS, values[: len(FIELDS)], strict=True))
    try:
        settings = Settings.from_list(list(values[len(FIELDS) :]))
    except SettingsError as error:
        raise UsageError(str(error)) from error
    options = _options(fields, settings)
    options.config, options.device, options.dtype = server.config, server.device, server.dtype
    options.checkpoint = _listed(shelf, "checkpoint", fields["checkpoint"])
    if settings.base_checkpoint != NO_CHECKPOINT:
        options.base_checkpoint = _listed(shelf, "base checkpoint", settings.base_checkpoint)
    if not 1 <= options.count <= COUNT_MAX:
        raise UsageError(f"count is {options.count}; it must lie between 1 and {COUNT_MAX}")
    options.lora = _files(fields["prompt"], shelf)
    return Wanted(asked_for(options), options)


def values_of_picture(path: str, shelf: Shelf) -> tuple[dict[str, Any], list[str]]:
    """Return values for the page's fields, controls and choices, by name, and what is not as in the picture.

    Raises:
        UsageError: it has no parameters, or they cannot be used.
    """
    try:
        found = parameters_of(read_parameters(path))
    except PngTextError as error:
        raise UsageError(str(error)) from error
    compared = {name: found.pairs[key] for name, key in zip(CHOICES, KEYS, strict=True) if key in found.pairs}
    pairs = {key: value for key, value in found.pairs.items() if key not in (SCRIPT, *KEYS)}
    picture = read_picture(replace(found, pairs=pairs), {}, frozenset())
    values = {"prompt": found.prompt, "negative": found.negative, **compared, **picture.values}
    settings = values.pop("settings")
    notices = list(picture.notices)
    same = [name for name, path in shelf.checkpoints.items() if called(path) == picture.model]
    if same:
        values["checkpoint"] = same[0]
    elif picture.model:
        notices.append(f"there is no checkpoint {picture.model!r} here; the one that is chosen stays")
    return {**values, **settings.to_dict()}, notices


def _options(fields: Mapping[str, Any], settings: Settings) -> argparse.Namespace:
    """Return the options of `generate` with a page's values."""
    parser = argparse.ArgumentParser()
    generate.add_command(parser.add_subparsers())
    options = parser.parse_args(["generate"])
    given = {name: value for name, value in fields.items() if name != "checkpoint"}
    for name in ("steps", "width", "height", "batch", "count", "seed"):
        given[name] = _whole(name, given[name])
    for name, own in (("seed", RANDOM_SEED), ("width", MODELS_SIZE), ("height", MODELS_SIZE)):
        if given[name] == own:
            given[name] = None
    chosen = settings.to_dict() if settings.enabled else {"mode": "CFG"}
    given |= {name: value for name, value in chosen.items() if hasattr(options, name)}
    vars(options).update(given | {"base_checkpoint": None})
    return options


def _listed(shelf: Shelf, what: str, name: str) -> Path:
    path = shelf.checkpoints.get(name)
    if path is None:
        raise UsageError(f"{what} {name!r} is not in the list; choose one of it")
    return path


def _files(prompt: str, shelf: Shelf) -> list[LoraFile]:
    """Return the files of a prompt's networks, each once for every tag that names it.

    Raises:
        UsageError: there is none of a name.
    """
    files = []
    for network in split_tags(prompt)[1]:
        path = shelf.network(network.name) if network.name else None
        if network.name and path is None:
            raise UsageError(f"there is no network {network.name!r}; correct the name in the prompt")
        if path is not None:
            files.append(LoraFile(path))
    return files


def _whole(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} is {value!r}; it must be a whole number")
    return value
