"""Pictures of one setting, made as `generate` makes them: the same pipeline call, hooks and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib_pg.accelerators import Sampling
from lib_pg.cli.samplers import MODELS_OWN, scheduler_for
from lib_pg.hosts.diffusers import BaseCheckpoint, guided, installed
from lib_pg.networks import Network
from lib_pg.settings import Settings

SAMPLER = "DPM++ 2M"
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Model:
    """A personalised model.

    Attributes:
        pipeline: with the base's weights, or the fine-tune's.
        networks: what personalises it.
        base: what the pipeline's checkpoint started from, where that is a full fine-tune.
    """

    pipeline: Any
    networks: tuple[Network, ...] = ()
    base: BaseCheckpoint | None = None


@contextmanager
def ready(model: Model, steps: int) -> Iterator[Model]:
    """Have the networks in the pipeline's weights for the block, and its sampler set."""
    pipeline = model.pipeline
    pipeline.scheduler = scheduler_for(SAMPLER, MODELS_OWN, steps, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad(), installed(model.networks):
        yield model


def made(
    model: Model,
    settings: Settings,
    scale: float,
    told: Sequence[tuple[str, int]],
    steps: int,
    warn: Callable[[str], None],
    negative: str = "",
) -> Pictures:
    """Return one batch of pictures, (n, height, width, 3).

    Args:
        model: in its `ready` block.
        settings: of the guidance.
        scale: guidance scale.
        told: prompt and seed of each picture; its noise is that of `generate --seed`, whatever the device.
        steps: sampling steps.
        warn: is told what would surprise.
        negative: negative prompt of all.
    """
    sampling = Sampling(steps, scale)
    with torch.no_grad(), guided(model.pipeline, model.networks, settings, warn, model.base, sampling):
        images = model.pipeline(
            prompt=[prompt for prompt, _ in told],
            negative_prompt=[negative] * len(told) if negative else None,
            num_inference_steps=steps,
            guidance_scale=scale,
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in told],
            output_type="np",
        ).images
    return np.asarray(np.round(images * 255), dtype=np.uint8)
