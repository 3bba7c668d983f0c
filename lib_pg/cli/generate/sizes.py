"""The size of a picture, in steps that a model can make."""

from __future__ import annotations

from dataclasses import replace
from math import lcm
from typing import Any

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import Job
from lib_pg.cli.generate.source import Source

# diffusers makes pictures of such sizes only, whatever the VAE's own factor.
_SIZES = 8


def at_model_size(job: Job, pipeline: Any, source: Source | None) -> Job:
    """Return the job with a size: asked for, of the picture that it starts from, or the model's own."""
    unit = lcm(_SIZES, pipeline.vae_scale_factor)
    own = pipeline.unet.config.sample_size
    height, width = own if isinstance(own, (list, tuple)) else (own, own)
    size = (width * pipeline.vae_scale_factor, height * pipeline.vae_scale_factor)
    if source is not None:
        size = (_whole(source.image.width, unit), _whole(source.image.height, unit))
    job = replace(job, width=job.width or size[0], height=job.height or size[1])
    for name, pixels in (("width", job.width), ("height", job.height)):
        if pixels and pixels % unit:
            raise UsageError(
                f"{name} is {pixels}; it must be a multiple of {unit}, such as {_whole(pixels, unit)}"
            )
    return job


def _whole(pixels: int, unit: int) -> int:
    """Return the multiple of `unit` below so many pixels, or the least."""
    return max(unit, pixels // unit * unit)
