"""A job's pictures on a loaded pipeline, which may be kept for many jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path
from typing import Any

import torch

from lib_pg.accelerators import Sampling
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import Job
from lib_pg.cli.generate.networks import called, hash_key
from lib_pg.cli.generate.record import Provenance, to_text
from lib_pg.cli.hashes import fingerprint
from lib_pg.cli.picture_files import png_with
from lib_pg.cli.samplers import scheduler_for
from lib_pg.formats import NetworkError
from lib_pg.hosts.diffusers import BaseCheckpoint, guided, installed, load_base_checkpoint, load_network
from lib_pg.networks import Network, describe, plan
from lib_pg.settings import NO_CHECKPOINT

# diffusers makes pictures of such sizes only, whatever the VAE's own factor.
_SIZES = 8

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Files:
    """The files of a job, apart from its networks.

    Attributes:
        checkpoint: a diffusers folder or a single file.
        base: what the checkpoint started from; None where it is not given.
    """

    checkpoint: Path
    base: Path | None = None


@dataclass(frozen=True)
class Drawing:
    """A job that is ready to be drawn.

    Attributes:
        job: with the sizes that its pictures get.
        files: what its pictures say of the files they are made with.
    """

    pipeline: Any
    job: Job
    networks: Sequence[Network]
    base: BaseCheckpoint | None
    files: Provenance
    warn: Warn

    def installed(self) -> AbstractContextManager[None]:
        """Have the model's layers hold the networks for the block."""
        return installed(self.networks)

    def batch(self, number: int = 0, on_step: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """Make one batch within `installed`; yield its pictures as PNGs with their parameters.

        Args:
            number: of the batch; its first seed is that of the job and all pictures before it.
            on_step: is called after every sampling step with its number, 0 for the first; an error that it
                raises ends the batch.
        """
        job = replace(self.job, seed=self.job.seed + number * self.job.batch)
        generators = [torch.Generator("cpu").manual_seed(job.seed + index) for index in range(job.batch)]
        with ExitStack() as stack:
            guidance = guided(
                self.pipeline, self.networks, job.settings, self.warn, self.base, _sampling(job)
            )
            run = stack.enter_context(guidance)
            images = self.pipeline(
                prompt=job.prompt,
                negative_prompt=job.negative or None,
                num_images_per_prompt=job.batch,
                num_inference_steps=job.steps,
                guidance_scale=job.scale,
                width=job.width,
                height=job.height,
                generator=generators,
                callback_on_step_end=_told(on_step),
            ).images
        for index, image in enumerate(images):
            yield png_with(image, to_text(job, self.files, index, run.ran))

    def describe(self) -> list[str]:
        """Say what will become of each network."""
        settings = self.job.settings
        if not settings.enabled or settings.mode == "CFG":
            return ["plain CFG"]
        networks = [*([self.base.network] if self.base else []), *self.networks]
        decided = plan(settings, networks, _sampling(self.job))
        ratios = decided.ratios(settings.weak_ratio)
        return [f"{settings.mode}: {describe(networks, ratios) or 'no network'}", *decided.remarks]


def prepare(pipeline: Any, job: Job, files: Files, warn: Warn) -> Drawing:
    """Read a job's networks, and set the pipeline's scheduler, made from the one that it has.

    Raises:
        UsageError: a file cannot be used, or a value does not fit the model.
    """
    job = _at_model_size(job, pipeline)
    pipeline.scheduler = scheduler_for(job.sampler, job.schedule_type, job.steps, pipeline.scheduler)
    networks = _networks(job, pipeline, warn)
    base = _base(job, files, pipeline, warn)
    provenance = Provenance(
        called(files.checkpoint),
        fingerprint(files.checkpoint),
        {hash_key(lora.name): fingerprint(lora.path) for lora in job.loras if lora.path is not None},
    )
    to_text(job, provenance, 0, guided=True)  # what could not be written is said before the work, not after
    return Drawing(pipeline, job, networks, base, provenance, warn)


def _told(on_step: Callable[[int], None] | None) -> Callable[..., dict[str, Any]] | None:
    if on_step is None:
        return None

    def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(step)
        return tensors

    return after_step


def _at_model_size(job: Job, pipeline: Any) -> Job:
    unit = lcm(_SIZES, pipeline.vae_scale_factor)
    own = pipeline.unet.config.sample_size
    height, width = own if isinstance(own, (list, tuple)) else (own, own)
    job = replace(
        job,
        width=job.width or width * pipeline.vae_scale_factor,
        height=job.height or height * pipeline.vae_scale_factor,
    )
    for name, pixels in (("width", job.width), ("height", job.height)):
        if pixels and pixels % unit:
            near = max(unit, pixels // unit * unit)
            raise UsageError(f"{name} is {pixels}; it must be a multiple of {unit}, such as {near}")
    return job


def _networks(job: Job, pipeline: Any, warn: Warn) -> list[Network]:
    networks = []
    for use in job.loras:
        assert use.path is not None  # a job's networks have files
        try:
            network = load_network(
                pipeline, use.path, use.strength, use.own.ratio, warn, use.own.strength,
                te_strength=use.te_strength, name=use.name,
            )  # fmt: skip
        except NetworkError as error:
            raise UsageError(str(error)) from error
        networks.append(network)
    return networks


def _base(job: Job, files: Files, pipeline: Any, warn: Warn) -> BaseCheckpoint | None:
    """Compare the checkpoint with what it started from, where the weak branch is to have that."""
    name = job.settings.base_checkpoint
    if name == NO_CHECKPOINT or not job.settings.enabled or job.settings.mode == "CFG":
        return None
    if files.base is None:
        raise UsageError(
            f"the picture was made with base checkpoint {name!r}; give it with --base-checkpoint PATH"
        )
    try:
        return load_base_checkpoint(pipeline, files.base, called(files.checkpoint), warn, job.weak_memory)
    except NetworkError as error:
        raise UsageError(str(error)) from error


def _sampling(job: Job) -> Sampling:
    return Sampling(job.steps, job.scale)
