"""Checkpoints to diffusers pipelines: a folder in diffusers format or a single safetensors file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib_pg.cli.devices import is_out_of_memory
from lib_pg.cli.errors import UsageError

CLASSES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
# What single files name their first text encoder's tensors, by model family.
_FAMILIES = {
    "conditioner.embedders.1.": "SDXL",
    "cond_stage_model.model.": "SD 2.x",
    "cond_stage_model.transformer.": "SD 1.x",
}
# What a U-Net reads: a noisy picture; those for inpainting read the mask and the picture beside it.
CHANNELS, CHANNELS_INPAINTING = 4, 9
INDEX = "model_index.json"
INDEX_BYTES_MAX = 1 << 20
# Before the names of a U-Net's tensors in single files.
UNET_PREFIX = "model.diffusion_model."


def load_pipeline(checkpoint: Path, config: Path | None, device: str, dtype: str) -> Any:
    """Load a Stable Diffusion 1.x, 2.x or SDXL pipeline.

    Args:
        checkpoint: a folder with `model_index.json`, or a .safetensors file.
        config: for a single file, a folder in diffusers format whose configuration and tokenizer are used;
            without it diffusers fetches those of the model family once.
        device: such as cpu, cuda, cuda:1, mps.
        dtype: float32, float16 or bfloat16.

    Raises:
        UsageError: not there, not such a model, or not loadable without a pickle.
    """
    import torch

    if not os.path.exists(checkpoint):  # the method raises where a name is too long
        raise UsageError(
            f"checkpoint {str(checkpoint)!r} does not exist; give a diffusers folder or a .safetensors file"
        )
    try:
        with _quiet_diffusers():
            pipeline = (
                _from_folder(checkpoint, getattr(torch, dtype))
                if checkpoint.is_dir()
                else _from_file(checkpoint, config, getattr(torch, dtype))
            )
            pipeline.to(device)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AssertionError) as error:
        # torch asserts that it was built for the device
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise UsageError(
            f"checkpoint {str(checkpoint)!r} could not be loaded on {device}: {reason[:400]}"
        ) from error
    pipeline.safety_checker = None
    return pipeline


def load_vae(path: Path, pipeline: Any) -> Any:
    """Load a VAE to take the place of a pipeline's own, with that one's type, device and settings.

    Args:
        path: a .safetensors file by the original names or those of diffusers, a VAE alone or a whole
            checkpoint; or a folder in diffusers format.

    Raises:
        UsageError: not there, no such VAE, or not loadable without a pickle.
    """
    own = pipeline.vae
    try:
        with _quiet_diffusers():
            vae = _vae_of_folder(path, own) if os.path.isdir(path) else _vae_of_file(path, own)
            return vae.to(own.device).eval()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:400]
        raise UsageError(f"VAE {str(path)!r} could not be loaded: {reason}") from error


def _vae_of_folder(folder: Path, own: Any) -> Any:
    return type(own).from_pretrained(
        str(folder), torch_dtype=own.dtype, use_safetensors=True, local_files_only=True
    )


def _vae_of_file(file: Path, own: Any) -> Any:
    names = _tensor_names(file, "VAE")
    if not any("decoder." in name for name in names):
        raise UsageError(f"VAE {file.name} holds no decoder; give a VAE as .safetensors")
    with tempfile.TemporaryDirectory() as config:  # its shape is the own one's: nothing is fetched for it
        own.save_config(config)
        return type(own).from_single_file(
            str(file), config=config, torch_dtype=own.dtype, local_files_only=True
        )


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Keep to itself what diffusers says of a model's files; later it tells of prompts that it cuts."""
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _from_folder(folder: Path, dtype: Any) -> Any:
    import diffusers

    index = folder / INDEX
    if not index.is_file() or index.stat().st_size > INDEX_BYTES_MAX:
        raise UsageError(f"folder {str(folder)!r} has no {INDEX}; give a folder in diffusers format")
    content = json.loads(index.read_text(encoding="utf-8"))
    name = content.get("_class_name") if isinstance(content, dict) else None
    if name not in CLASSES:
        known = " and ".join(CLASSES)
        raise UsageError(f"folder {str(folder)!r} holds a pipeline of class {name!r}; supported are {known}")
    return getattr(diffusers, name).from_pretrained(
        str(folder), torch_dtype=dtype, use_safetensors=True, local_files_only=True
    )


def _from_file(file: Path, config: Path | None, dtype: Any) -> Any:
    import diffusers

    if config is not None and not os.path.isfile(config / INDEX):
        raise UsageError(f"--config {str(config)!r} is no folder in diffusers format: it has no {INDEX}")
    family = _family(file)
    pipeline = getattr(diffusers, CLASSES[family == "SDXL"])
    source = {"config": str(config), "local_files_only": True} if config else {}
    try:
        return pipeline.from_single_file(str(file), torch_dtype=dtype, **source)
    except OSError as error:
        if config is not None:
            raise
        raise UsageError(
            f"the configuration for {file.name} is not on this machine and could not be fetched; give it "
            f"with --config FOLDER: any {family} model in diffusers format, "
            "its weights are not read"
        ) from error


def _family(file: Path) -> str:
    """Return the model family of a single file, told by its tensors' names."""
    if family := family_of_names(_tensor_names(file)):
        return family
    raise UsageError(
        f"{file.name} is no whole SD 1.x, SD 2.x or SDXL checkpoint; a LoRA is given with --lora {file.name}"
    )


def family_of_names(names: Collection[str]) -> str:
    """Return the model family of a single file with such tensors; empty where that is none drawn here."""
    found = (family for prefix, family in _FAMILIES.items() if any(name.startswith(prefix) for name in names))
    return next(found, "")


def _tensor_names(file: Path, what: str = "checkpoint") -> list[str]:
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        raise UsageError(f"{what} {file.name} is no .safetensors file; other formats can run code when read")
    try:
        with safe_open(str(file), framework="pt") as content:
            return list(content.keys())
    except SafetensorError as error:
        raise UsageError(f"{what} {file.name} is damaged: {error}") from error
