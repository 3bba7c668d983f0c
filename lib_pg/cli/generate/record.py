"""The parameters text that carries a job in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lib_pg import __version__
from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.job import Job
from lib_pg.cli.png_text import PngTextError, compose
from lib_pg.infotext import WEAK_MEMORY, to_infotext
from lib_pg.settings import NO_CHECKPOINT

PROGRAM = "personalization-guidance"
DENOISE = "Denoising strength"
INIT_HASH, MASK_HASH = "Init image hash", "Mask hash"


@dataclass(frozen=True)
class Provenance:
    """What a PNG says about the files: names and short hashes, never paths."""

    model: str
    model_hash: str
    lora_hashes: Mapping[str, str] = field(default_factory=dict)
    vae: str = ""
    vae_hash: str = ""
    source_hashes: Mapping[str, str] = field(default_factory=dict)


def to_text(job: Job, files: Provenance, position: int, guided: bool) -> str:
    """Return the `parameters` text of the picture at `position` in the batch of `job`.

    Args:
        guided: whether guidance ran; its keys are left out where it did not.

    Raises:
        UsageError: the text would not read back as it is, because of what the prompts hold.
    """
    pairs = {"Steps": str(job.steps), "Sampler": job.sampler}
    if job.schedule_type:
        pairs["Schedule type"] = job.schedule_type
    pairs |= {
        "CFG scale": f"{job.scale!r}",
        "Seed": str(job.seed + position),
        "Size": f"{job.width}x{job.height}",
        "Model hash": files.model_hash,
        "Model": files.model,
    }
    if files.vae:
        pairs |= {"VAE hash": files.vae_hash, "VAE": files.vae}
    if job.denoise is not None:
        pairs |= {DENOISE: f"{job.denoise!r}", **files.source_hashes}
    if job.batch > 1:
        pairs |= {"Batch size": str(job.batch), "Batch pos": str(position)}
    if files.lora_hashes:
        pairs["Lora hashes"] = ", ".join(f"{name}: {digest}" for name, digest in files.lora_hashes.items())
    if guided:
        pairs |= to_infotext(job.settings)
        if job.weak_memory and job.settings.base_checkpoint != NO_CHECKPOINT:
            pairs[WEAK_MEMORY] = str(job.weak_memory)
    pairs |= {"Precision": job.dtype, "Version": f"{PROGRAM} {__version__}"}
    tags = [lora.tag() for lora in job.loras]
    try:
        return compose(" ".join([job.prompt, *tags] if job.prompt else tags), job.negative, pairs)
    except PngTextError as error:
        raise UsageError(str(error)) from error
