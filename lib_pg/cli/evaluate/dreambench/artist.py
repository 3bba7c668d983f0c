"""Makes the pictures: a pipeline with a subject's fine-tune, guided by each method; what is made is kept."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib_pg import __version__
from lib_pg.accelerators import Sampling
from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.dreambench.prompts import Prompt
from lib_pg.cli.evaluate.dreambench.subjects import Models, Subject
from lib_pg.cli.evaluate.methods import Method
from lib_pg.cli.hashes import fingerprint
from lib_pg.cli.output import replace_file
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.cli.refused import in_one_line
from lib_pg.cli.samplers import MODELS_OWN, scheduler_for, split_sampler
from lib_pg.hosts.diffusers import BaseCheckpoint, guided, installed, load_base_checkpoint, load_network
from lib_pg.networks import Network
from lib_pg.settings import Settings

_SIZES = 8  # diffusers makes pictures of such sizes only
_DIGITS = 16


@dataclass(frozen=True)
class Shot:
    """One picture to make."""

    prompt: Prompt
    seed: int


@dataclass(frozen=True)
class How:
    """What all pictures share.

    Attributes:
        checkpoint, config, base: of subjects that do not name their own.
        width, height: pixels, or None for the model's own.
    """

    checkpoint: Path | None
    config: Path | None
    base: Path | None
    steps: int
    sampler: str
    width: int | None
    height: int | None
    dtype: str
    device: str

    def models_of(self, subject: Subject) -> Models:
        """Return a subject's models with those that all share.

        Raises:
            UsageError: no checkpoint, or nothing that guidance could weaken.
        """
        own = subject.models
        checkpoint = own.checkpoint or self.checkpoint
        if checkpoint is None:
            raise UsageError(
                f"subject {subject.name!r} has no checkpoint of its own; give one with --checkpoint"
            )
        base = own.base or (self.base if own.checkpoint is not None else None)
        if own.lora is None and base is None:
            raise UsageError(
                f"subject {subject.name!r} is a full fine-tune; give what it started from with "
                "--base-checkpoint"
            )
        return Models(checkpoint, own.lora, own.strength, base)


class Artist:
    """Makes pictures and keeps them by the hash of everything that decides them.

    Args:
        folder: where pictures are kept.
        warn: is told what would surprise the user.
    """

    def __init__(self, how: How, folder: Path, warn: Callable[[str], None]) -> None:
        self._how = how
        self._folder = folder
        self._warn = warn
        self._loaded: tuple[Path, Any] | None = None
        self._hashes: dict[Path, str] = {}

    def hash_of(self, path: Path) -> str:
        """Return the content hash of a file or folder of weights.

        Raises:
            UsageError: it is not there or cannot be read.
        """
        if path not in self._hashes:
            try:
                self._hashes[path] = _content_hash(path)
            except OSError as error:
                raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
        return self._hashes[path]

    @contextmanager
    def at_work(self, subject: Subject) -> Iterator[Model]:
        """Have a subject's fine-tune loaded for the block."""
        models = self._how.models_of(subject)
        assert models.checkpoint is not None
        pipeline = self._pipeline(models.checkpoint)
        with in_one_line(f"subject {subject.name!r}: "):
            networks = [] if models.lora is None else [self._network(pipeline, models)]
            base = None
            if models.base is not None:
                base = load_base_checkpoint(pipeline, models.base, models.checkpoint.name, self._warn)
        paths = (models.checkpoint, models.lora, models.base)
        hashes = [self.hash_of(path) for path in paths if path is not None]
        if self._how.config is not None:  # the same folder may be the base
            hashes.append(f"config {self.hash_of(self._how.config)}")
        hashes.append(str(models.strength))
        with installed(networks):
            yield Model(pipeline, networks, base, hashes, self._how, self._folder, self._warn)

    def _pipeline(self, checkpoint: Path) -> Any:
        """Return a checkpoint's pipeline; one at a time is held."""
        if self._loaded is None or self._loaded[0] != checkpoint:
            self._loaded = None
            how = self._how
            pipeline = load_pipeline(checkpoint, how.config, how.device, how.dtype)
            sampler, schedule_type = split_sampler(how.sampler)
            pipeline.scheduler = scheduler_for(
                sampler, schedule_type or MODELS_OWN, how.steps, pipeline.scheduler
            )
            pipeline.set_progress_bar_config(disable=True)
            self._loaded = checkpoint, pipeline
        return self._loaded[1]

    def _network(self, pipeline: Any, models: Models) -> Network:
        assert models.lora is not None
        return load_network(pipeline, models.lora, models.strength, warn=self._warn)


@dataclass(frozen=True, eq=False)
class Model:
    """A pipeline with one subject's fine-tune in it."""

    pipeline: Any
    networks: Sequence[Network]
    base: BaseCheckpoint | None
    hashes: Sequence[str]
    how: How
    folder: Path
    warn: Callable[[str], None]

    def pictures(self, method: Method, scale: float, shots: Sequence[Shot]) -> list[Image.Image]:
        """Return pictures of one setting, those that are kept already from their files.

        Raises:
            UsageError: the method's guidance does not run with this fine-tune, or nothing can be written.
        """
        paths = [self.path(method, scale, shot) for shot in shots]
        found = [_read(path) for path in paths]
        missing = [number for number, image in enumerate(found) if image is None]
        if missing:
            made = self._make(method, scale, [shots[number] for number in missing])
            for number, image in zip(missing, made, strict=True):
                stream = io.BytesIO()
                image.save(stream, format="PNG")
                paths[number].parent.mkdir(parents=True, exist_ok=True)
                replace_file(paths[number], stream.getvalue())
                found[number] = image
        return [image for image in found if image is not None]

    def path(self, method: Method, scale: float, shot: Shot) -> Path:
        """Return the file of a picture, named by the hash of all that decides it."""
        width, height = self._size()
        decides = [
            __version__, list(self.hashes), shot.prompt.told, shot.seed, method.settings.to_dict(), scale,
            self.how.steps, self.how.sampler, width, height, self.how.dtype,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:_DIGITS]
        return self.folder / digest[:2] / f"{digest}.png"

    def _make(self, method: Method, scale: float, shots: Sequence[Shot]) -> list[Image.Image]:
        width, height = self._size()
        generators = [torch.Generator("cpu").manual_seed(shot.seed) for shot in shots]
        sampling = Sampling(self.how.steps, scale)
        base = self.base if method.settings.mode != "CFG" else None
        # The base checkpoint's layers are read when they are called.
        with (
            in_one_line(),
            guided(self.pipeline, self.networks, method.settings, self.warn, base, sampling) as run,
        ):
            images = self.pipeline(
                prompt=[shot.prompt.told for shot in shots],
                num_inference_steps=self.how.steps,
                guidance_scale=scale,
                width=width,
                height=height,
                generator=generators,
                output_type="np",
            ).images
        if _weakens(method.settings) and not run.ran:
            raise UsageError(
                f"{method.name} did not run with this fine-tune: nothing of it can be weakened; its pictures "
                "would be CFG's"
            )
        if not np.isfinite(images).all():  # diffusers would make them black
            raise UsageError(
                f"pictures of {method.name} at scale {scale:g} come to values that are no numbers; try "
                "--dtype float32 or bfloat16"
            )
        return list(self.pipeline.numpy_to_pil(images))

    def _size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        factor = self.pipeline.vae_scale_factor
        own = self.pipeline.unet.config.sample_size
        height, width = own if isinstance(own, (list, tuple)) else (own, own)
        asked = (self.how.width, self.how.height)
        size = [
            pixels * factor if side is None else side
            for side, pixels in zip(asked, (width, height), strict=True)
        ]
        unit = lcm(_SIZES, factor)
        for name, pixels in zip(("width", "height"), size, strict=True):
            if pixels % unit or not unit <= pixels <= 8192:
                raise UsageError(f"{name} is {pixels}; it must be a multiple of {unit}, to 8192")
        return size[0], size[1]


def _content_hash(path: Path) -> str:
    """Return the hash of weights and, in a folder, of the configurations that decide as much."""
    digest = hashlib.sha256(fingerprint(path, 64).encode())
    for file in sorted(path.rglob("*.json")) if path.is_dir() else []:
        digest.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:_DIGITS]


def _weakens(settings: Settings) -> bool:
    constant = settings.schedule == "Constant" and settings.weak_ratio == 1
    return settings.enabled and settings.mode != "CFG" and settings.start < settings.end and not constant


def _read(path: Path) -> Image.Image | None:
    """Return a kept picture, or None where there is none that can be read."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
