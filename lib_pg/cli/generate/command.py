"""`python -m lib_pg generate`: pictures from a checkpoint and LoRA files, with guidance."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import lcm
from pathlib import Path
from typing import Any

import torch

from lib_pg.accelerators import Sampling
from lib_pg.cli.devices import check_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.asked import Asked, asked_for
from lib_pg.cli.generate.job import Job
from lib_pg.cli.generate.networks import called, hash_key
from lib_pg.cli.generate.record import Provenance, to_text
from lib_pg.cli.hashes import fingerprint
from lib_pg.cli.output import output_folder, save_new
from lib_pg.cli.picture_files import png_with
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.cli.samplers import scheduler_for
from lib_pg.formats import NetworkError
from lib_pg.hosts.diffusers import (
    BaseCheckpoint,
    guided,
    installed,
    load_base_checkpoint,
    load_network,
)
from lib_pg.networks import Network, describe, plan
from lib_pg.settings import NO_CHECKPOINT

# diffusers makes pictures of such sizes only, whatever the VAE's own factor.
_SIZES = 8


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    torch.set_grad_enabled(False)
    asked = asked_for(options)
    for notice in asked.notices:
        _warn(notice)
    with output_folder(options.out, "--out"):
        check_device(options.device)
        pipeline = load_pipeline(options.checkpoint, options.config, options.device, asked.job.dtype)
        job = _at_model_size(asked.job, pipeline)
        pipeline.scheduler = scheduler_for(job.sampler, job.schedule_type, job.steps, pipeline.scheduler)
        pipeline.set_progress_bar_config(desc="sampling", leave=False)
        networks = _networks(job, pipeline)
        base = _base(job, options, pipeline)
        files = Provenance(
            called(options.checkpoint),
            fingerprint(options.checkpoint),
            {hash_key(lora.name): fingerprint(lora.path) for lora in job.loras if lora.path is not None},
        )
        _compare(asked, files)
        to_text(job, files, 0, guided=True)  # what could not be written is said before the work, not after
        _say_what_happens(job, networks, base)
        with installed(networks):
            for number in range(options.count):
                batch = replace(job, seed=job.seed + number * job.batch)
                for path in _batch(pipeline, networks, base, batch, files, options.out, asked.position):
                    print(path)
    return 0


def _batch(
    pipeline: Any,
    networks: Sequence[Network],
    base: BaseCheckpoint | None,
    job: Job,
    files: Provenance,
    out: Path,
    position: int | None,
) -> Iterator[Path]:
    """Make one batch; yield the files written: all pictures, or the one at `position`."""
    generators = [torch.Generator("cpu").manual_seed(job.seed + index) for index in range(job.batch)]
    with ExitStack() as stack:
        run = stack.enter_context(guided(pipeline, networks, job.settings, _warn, base, _sampling(job)))
        images = pipeline(
            prompt=job.prompt,
            negative_prompt=job.negative or None,
            num_images_per_prompt=job.batch,
            num_inference_steps=job.steps,
            guidance_scale=job.scale,
            width=job.width,
            height=job.height,
            generator=generators,
        ).images
    for index, image in enumerate(images):
        if position in (None, index):
            yield save_new(png_with(image, to_text(job, files, index, run.ran)), out, job.seed + index)


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


def _networks(job: Job, pipeline: Any) -> list[Network]:
    networks = []
    for use in job.loras:
        assert use.path is not None  # a job's networks have files
        try:
            network = load_network(
                pipeline, use.path, use.strength, use.own.ratio, _warn, use.own.strength,
                te_strength=use.te_strength, name=use.name,
            )  # fmt: skip
        except NetworkError as error:
            raise UsageError(str(error)) from error
        networks.append(network)
    return networks


def _base(job: Job, options: argparse.Namespace, pipeline: Any) -> BaseCheckpoint | None:
    """Compare the checkpoint with what it started from, where the weak branch is to have that."""
    name, path = job.settings.base_checkpoint, options.base_checkpoint
    if name == NO_CHECKPOINT or not job.settings.enabled or job.settings.mode == "CFG":
        return None
    if path is None:
        raise UsageError(
            f"the picture was made with base checkpoint {name!r}; give it with --base-checkpoint PATH"
        )
    try:
        base = load_base_checkpoint(pipeline, path, called(options.checkpoint), _warn, job.weak_memory)
    except NetworkError as error:
        raise UsageError(str(error)) from error
    print(base.describe(), file=sys.stderr)
    return base


def _compare(asked: Asked, files: Provenance) -> None:
    """Warn where a picture is repeated with another checkpoint than it was made with."""
    wanted = asked.picture
    if wanted is not None and wanted.model_hash and wanted.model_hash != files.model_hash:
        _warn(f"the picture was made with model {wanted.model!r} ({wanted.model_hash}), not {files.model!r}")


def _say_what_happens(job: Job, networks: Sequence[Network], base: BaseCheckpoint | None) -> None:
    settings = job.settings
    if not settings.enabled or settings.mode == "CFG":
        print("plain CFG", file=sys.stderr)
        return
    networks = [*([base.network] if base else []), *networks]
    decided = plan(settings, networks, _sampling(job))
    ratios = decided.ratios(settings.weak_ratio)
    print(f"{settings.mode}: {describe(networks, ratios) or 'no network'}", file=sys.stderr)
    for remark in decided.remarks:
        print(remark, file=sys.stderr)


def _sampling(job: Job) -> Sampling:
    return Sampling(job.steps, job.scale)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
