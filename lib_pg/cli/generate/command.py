"""`python -m lib_pg generate`: pictures from a checkpoint and LoRA files, with guidance."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lib_pg.accelerators import Sampling
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import Job, with_lora
from lib_pg.cli.generate.options import LoraFile, called, job_from
from lib_pg.cli.generate.record import Provenance, from_text, to_text
from lib_pg.cli.pipelines import fingerprint, load_pipeline
from lib_pg.cli.png_text import PngTextError, read_parameters, write_parameters
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


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    torch.set_grad_enabled(False)
    job, wanted, position = _job(options)
    pipeline = load_pipeline(options.checkpoint, options.config, options.device, job.dtype)
    job = _at_model_size(job, pipeline)
    pipeline.scheduler = scheduler_for(job.sampler, pipeline.scheduler)
    pipeline.set_progress_bar_config(desc="sampling", leave=False)
    networks = _networks(job, options.lora, pipeline)
    base = _base(job, options, pipeline)
    files = Provenance(
        options.checkpoint.stem,
        fingerprint(options.checkpoint),
        {lora.name: fingerprint(lora.path) for lora in options.lora},
    )
    _compare(wanted, files)
    to_text(job, files, 0, guided=True)  # what could not be written is said before the work, not after
    _say_what_happens(job, networks, base)
    options.out.mkdir(parents=True, exist_ok=True)
    with installed(networks):
        for number in range(options.count):
            batch = replace(job, seed=job.seed + number * job.batch)
            for path in _batch(pipeline, networks, base, batch, files, options.out, position):
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
            path = _free_path(out, job.seed + index)
            write_parameters(image, path, to_text(job, files, index, run.ran))
            yield path


def _job(options: argparse.Namespace) -> tuple[Job, Provenance | None, int | None]:
    """Return the job and, where it comes from a picture, that picture's files and place in its batch."""
    job, wanted, position = Job(seed=secrets.randbelow(2**32)), None, None
    if options.from_png is not None:
        try:
            job, wanted, position = from_text(read_parameters(options.from_png))
        except PngTextError as error:
            raise UsageError(str(error)) from error
    job = job_from(options, job)
    if position is not None and position >= job.batch:
        raise UsageError(
            f"the picture was number {position + 1} of its batch; --batch {job.batch} is too small"
        )
    for lora in options.lora:
        job = with_lora(job, lora.name, lora.strength, lora.own)
    return job, wanted, position


def _at_model_size(job: Job, pipeline: Any) -> Job:
    unit = pipeline.vae_scale_factor
    own = pipeline.unet.config.sample_size * unit
    job = replace(job, width=job.width or own, height=job.height or own)
    for name, pixels in (("width", job.width), ("height", job.height)):
        if pixels % unit:
            raise UsageError(f"{name} is {pixels}; this model needs a multiple of {unit}")
    return job


def _networks(job: Job, given: Sequence[LoraFile], pipeline: Any) -> list[Network]:
    paths = {lora.name: lora.path for lora in given}
    networks = []
    for use in job.loras:
        if use.name not in paths:
            raise UsageError(
                f"the picture was made with network {use.name!r}; give its file with --lora PATH"
            )
        try:
            path, own = paths[use.name], use.own
            networks.append(load_network(pipeline, path, use.strength, own.ratio, _warn, own.strength))
        except NetworkError as error:
            raise UsageError(str(error)) from error
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


def _compare(wanted: Provenance | None, files: Provenance) -> None:
    """Warn where a picture is repeated with other files than it was made with."""
    if wanted is None:
        return
    if wanted.model_hash != files.model_hash:
        _warn(f"the picture was made with model {wanted.model!r} ({wanted.model_hash}), not {files.model!r}")
    for name, digest in wanted.lora_hashes.items():
        if files.lora_hashes.get(name, digest) != digest:
            _warn(f"network {name!r} is another file than the one the picture was made with")


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


def _free_path(folder: Path, seed: int) -> Path:
    taken = [int(found[1]) for path in folder.glob("*.png") if (found := re.match(r"(\d{5})-", path.name))]
    return folder / f"{max(taken, default=-1) + 1:05d}-{seed}.png"


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
