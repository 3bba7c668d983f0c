"""Makes the pictures that are asked for; a model stays loaded from one request to the next."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lib_pg.accelerators import Sampling
from lib_pg.cli.devices import check_device, chosen_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.asked import Asked
from lib_pg.cli.generate.job import Job
from lib_pg.cli.generate.networks import called, hash_key
from lib_pg.cli.generate.prompt_length import length_notice
from lib_pg.cli.generate.record import Provenance, to_text
from lib_pg.cli.generate.sizes import at_model_size
from lib_pg.cli.generate.source import Source, load_source, pipeline_for
from lib_pg.cli.hashes import fingerprint, state
from lib_pg.cli.picture_files import png_with
from lib_pg.cli.pipelines import load_pipeline, load_vae
from lib_pg.cli.refused import in_one_line
from lib_pg.cli.samplers import scheduler_for
from lib_pg.hosts.diffusers import (
    BaseCheckpoint,
    guided,
    installed,
    load_base_checkpoint,
    load_network,
)
from lib_pg.networks import Network, describe, plan
from lib_pg.settings import NO_CHECKPOINT

Say = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """A picture: its seed, and the PNG with its parameters."""

    seed: int
    png: bytes


@dataclass(frozen=True)
class _Loaded:
    """A model in memory, by what it was loaded from, with the scheduler that is its own."""

    key: tuple[object, ...]
    pipeline: Any
    scheduler: Any


@dataclass(frozen=True)
class _Base:
    """A base checkpoint that was compared with a loaded model, and what there was to warn of."""

    key: tuple[object, ...]
    checkpoint: BaseCheckpoint
    warnings: Sequence[str]


class Studio:
    """Makes pictures, one request after the other; it keeps the last model, and what it was compared with.

    Args:
        say: is told what happens.
        warn: is told what would surprise.
        bars: whether each picture's steps are shown.
    """

    def __init__(self, say: Say, warn: Say, bars: bool = True) -> None:
        self._say = say
        self._warn = warn
        self._bars = bars
        self._loaded: _Loaded | None = None
        self._compared: _Base | None = None
        self._hashes: dict[tuple[object, ...], str] = {}

    def made(
        self, asked: Asked, options: argparse.Namespace, on_step: Callable[[], None] | None = None
    ) -> Iterator[Made]:
        """Yield the pictures of a request, each as soon as its batch is made.

        Args:
            options: those of the command, for the files and the device.
            on_step: is called after every sampling step; an error that it raises ends the request.

        Raises:
            UsageError: a file cannot be used, or the job does not fit the model.
        """
        last = asked.job.seed + (options.count - 1) * asked.job.batch
        replace(asked.job, seed=last)  # seeds that are too great are said before the work, not after
        source = load_source(options.init_image, options.mask)
        loaded = self._load(options, asked.job.dtype)
        pipeline = pipeline_for(loaded.pipeline, source)
        job = at_model_size(asked.job, pipeline, source)
        if source is not None:
            assert job.width and job.height
            source = source.for_size(job.width, job.height)
        pipeline.scheduler = scheduler_for(job.sampler, job.schedule_type, job.steps, loaded.scheduler)
        pipeline.set_progress_bar_config(desc="sampling", leave=False, disable=not self._bars)
        networks = self._networks(job, pipeline)
        base = self._base(job, options, pipeline)
        files = self._provenance(job, options, source)
        self._compare(asked, files)
        to_text(job, files, 0, guided=True)  # what could not be written is said before the work, not after
        self._say_what_happens(job, networks, base)
        if too_long := length_notice(pipeline, positive=job.prompt, negative=job.negative):
            self._warn(too_long)
        with installed(networks):
            for number in range(options.count):
                batch = replace(job, seed=job.seed + number * job.batch)
                yield from self._batch(
                    pipeline, networks, base, batch, files, source, asked.position, on_step
                )

    def _load(self, options: argparse.Namespace, dtype: str) -> _Loaded:
        device = chosen_device(options.device)
        files = (state(options.checkpoint), options.config, options.vae and state(options.vae))
        key = (files, device, dtype)
        if self._loaded is None or self._loaded.key != key:
            self._loaded = self._compared = None  # their memory is needed
            check_device(device)
            self._say(f"device: {_named(device)}")
            pipeline = load_pipeline(options.checkpoint, options.config, device, dtype)
            if options.vae is not None:
                pipeline.vae = load_vae(options.vae, pipeline)
            self._loaded = _Loaded(key, pipeline, pipeline.scheduler)
        return self._loaded

    def _batch(
        self,
        pipeline: Any,
        networks: Sequence[Network],
        base: BaseCheckpoint | None,
        job: Job,
        files: Provenance,
        source: Source | None,
        position: int | None,
        on_step: Callable[[], None] | None,
    ) -> Iterator[Made]:
        """Make one batch; yield all pictures, or the one at `position`."""
        generators = [torch.Generator("cpu").manual_seed(job.seed + index) for index in range(job.batch)]
        with ExitStack() as stack:
            stack.enter_context(in_one_line())  # the base checkpoint's layers are read when they are called
            run = stack.enter_context(
                guided(pipeline, networks, job.settings, self._warn, base, _sampling(job), fast=job.fast)
            )
            for reason in run.why_slow():
                self._warn(reason)
            images = pipeline(
                prompt=job.prompt,
                negative_prompt=job.negative or None,
                num_images_per_prompt=job.batch,
                num_inference_steps=job.steps,
                guidance_scale=job.scale,
                generator=generators,
                callback_on_step_end=_told(on_step),
                **_arguments(job, source),
            ).images
        for index, image in enumerate(images):
            if position in (None, index):
                kept = source.kept(image) if source else image
                yield Made(job.seed + index, png_with(kept, to_text(job, files, index, run.ran)))

    def _networks(self, job: Job, pipeline: Any) -> list[Network]:
        networks = []
        for use in job.loras:
            assert use.path is not None  # a job's networks have files
            with in_one_line():
                network = load_network(
                    pipeline, use.path, use.strength, use.own.ratio, self._warn, use.own.strength,
                    te_strength=use.te_strength, name=use.name,
                )  # fmt: skip
            networks.append(network)
        return networks

    def _base(self, job: Job, options: argparse.Namespace, pipeline: Any) -> BaseCheckpoint | None:
        """Return what the checkpoint started from, where the weak branch is to have that."""
        name, path = job.settings.base_checkpoint, options.base_checkpoint
        if name == NO_CHECKPOINT or not job.settings.enabled or job.settings.mode == "CFG":
            self._compared = None
            return None
        if path is None:
            raise UsageError(
                f"the picture was made with base checkpoint {name!r}; give it with --base-checkpoint PATH"
            )
        compared = self._compare_with(path, job, options, pipeline)
        for warning in compared.warnings:
            self._warn(warning)
        self._say(compared.checkpoint.describe())
        return compared.checkpoint

    def _compare_with(self, path: Path, job: Job, options: argparse.Namespace, pipeline: Any) -> _Base:
        assert self._loaded is not None
        key = (self._loaded.key, state(path), job.weak_memory)
        if self._compared is None or self._compared.key != key:
            self._compared, warnings = None, list[str]()
            with in_one_line():
                base = load_base_checkpoint(
                    pipeline, path, called(options.checkpoint), warnings.append, job.weak_memory
                )
            self._compared = _Base(key, base, warnings)
        return self._compared

    def _provenance(self, job: Job, options: argparse.Namespace, source: Source | None) -> Provenance:
        vae: Path | None = options.vae
        return Provenance(
            called(options.checkpoint),
            self._hash(options.checkpoint),
            {hash_key(lora.name): self._hash(lora.path) for lora in job.loras if lora.path is not None},
            "" if vae is None else called(vae),
            "" if vae is None else self._hash(vae),
            {} if source is None else source.hashes,
        )

    def _hash(self, path: Path) -> str:
        key = state(path)
        if key not in self._hashes:
            self._hashes[key] = fingerprint(path)
        return self._hashes[key]

    def _compare(self, asked: Asked, files: Provenance) -> None:
        """Warn where a picture is repeated with other files than it was made with."""
        wanted = asked.picture
        if wanted is None:
            return
        if wanted.model_hash and wanted.model_hash != files.model_hash:
            self._warn(
                f"the picture was made with model {wanted.model!r} ({wanted.model_hash}), not {files.model!r}"
            )
        for key, digest in {**files.source_hashes, "VAE hash": files.vae_hash}.items():
            if digest and wanted.file_hashes.get(key, digest) != digest:
                self._warn(f"the picture was made with another file: {key} {wanted.file_hashes[key][:40]}")

    def _say_what_happens(self, job: Job, networks: Sequence[Network], base: BaseCheckpoint | None) -> None:
        settings = job.settings
        if not settings.enabled or settings.mode == "CFG":
            self._say("plain CFG")
            return
        networks = [*([base.network] if base else []), *networks]
        decided = plan(settings, networks, _sampling(job))
        ratios = decided.ratios(settings.weak_ratio)
        self._say(f"{settings.mode}: {describe(networks, ratios) or 'no network'}")
        for remark in decided.remarks:
            self._say(remark)


def say(message: str) -> None:
    """Tell who looks what happens."""
    print(message, file=sys.stderr)


def warn(message: str) -> None:
    """Tell who looks what would surprise."""
    print(f"warning: {message}", file=sys.stderr)


def _told(on_step: Callable[[], None] | None) -> Callable[..., dict[str, Any]] | None:
    if on_step is None:
        return None

    def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return tensors

    return after_step


def _arguments(job: Job, source: Source | None) -> Mapping[str, Any]:
    """Return the pipeline's arguments for what the picture starts from."""
    if source is None:
        return {"width": job.width, "height": job.height}
    assert job.width and job.height
    return {"strength": job.denoise, **source.arguments(job.width, job.height)}


def _named(device: str) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def _sampling(job: Job) -> Sampling:
    return Sampling(job.steps, job.scale)
