"""Checkpoints of small pipelines: folders, and single files by the original names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_pg.hosts.diffusers import models_of
from tests.networks import ldm_paths


@torch.no_grad()
def moved(pipeline: Any, size: float = 0.2, seed: int = 7) -> Any:
    """Have every parameter of a pipeline's models moved, as a full fine-tune does."""
    generator = torch.Generator().manual_seed(seed)
    for model in models_of(pipeline).values():
        for value in model.parameters():
            noise = torch.randn(value.shape, generator=generator).to(value.dtype)
            value.add_(noise * size * float(value.float().abs().mean() + 0.02))
    return pipeline


def folder_of(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(str(folder))
    return folder


def single_file_of(pipeline: Any, path: Path, dtype: torch.dtype = torch.float32, text: bool = True) -> Path:
    """Write a pipeline's models into one file by the original names."""
    tensors = dict(_unet(pipeline.unet))
    second = getattr(pipeline, "text_encoder_2", None)
    if text:
        first = "cond_stage_model" if second is None else "conditioner.embedders.0"
        for name, value in pipeline.text_encoder.named_parameters():
            root = "" if name.startswith("text_model.") else "text_model."
            tensors[f"{first}.transformer.{root}{name}"] = value
        if second is not None:
            tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in open_clip_of(second).items()}
    tensors["first_stage_model.decoder.conv_in.weight"] = torch.zeros(2, 2)
    tensors["model_ema.decay"] = torch.tensor(0.9)
    save_file({key: value.detach().to(dtype).contiguous() for key, value in tensors.items()}, path)
    return path


def _unet(unet: nn.Module) -> dict[str, Tensor]:
    paths = ldm_paths(unet)
    tensors = {}
    for name, value in unet.named_parameters():
        path, _, last = name.rpartition(".")
        tensors[f"model.diffusion_model.{_original(path, paths)}.{last}"] = value
    return tensors


def _original(path: str, paths: dict[str, str]) -> str:
    """The original path of a layer: those with parameters that `ldm_paths` leaves out are norms."""
    if path in paths:
        return paths[path]
    if path == "conv_norm_out":
        return "out.0"
    parent, _, name = path.rpartition(".")
    if name in ("norm1", "norm2") and ".resnets." in path and "transformer" not in path:
        conv = paths[f"{parent}.{'conv1' if name == 'norm1' else 'conv2'}"]
        return f"{conv.rpartition('.')[0]}.0"
    if name == "norm" and ".attentions." in path:
        return f"{paths[f'{parent}.proj_in'].rpartition('.')[0]}.norm"
    query = paths[f"{parent}.attn1.to_q"]  # a transformer block's norms
    return f"{query.removesuffix('.attn1.to_q')}.{name}"


def open_clip_of(model: nn.Module) -> dict[str, Tensor]:
    """A CLIP text encoder by OpenCLIP's names, with q, k and v in one tensor."""
    values = {name.removeprefix("text_model."): value for name, value in model.named_parameters()}
    tensors = {
        "token_embedding.weight": values["embeddings.token_embedding.weight"],
        "positional_embedding": values["embeddings.position_embedding.weight"],
        "ln_final.weight": values["final_layer_norm.weight"],
        "ln_final.bias": values["final_layer_norm.bias"],
    }
    if "text_projection.weight" in values:
        tensors["text_projection"] = values["text_projection.weight"].t()
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    number = 0
    while f"encoder.layers.{number}.layer_norm1.weight" in values:
        stem, out = f"encoder.layers.{number}.", f"transformer.resblocks.{number}."
        for last in ("weight", "bias"):
            thirds = [values[f"{stem}self_attn.{letter}_proj.{last}"] for letter in "qkv"]
            tensors[f"{out}attn.in_proj_{last}"] = torch.cat(thirds)
            tensors[f"{out}attn.out_proj.{last}"] = values[f"{stem}self_attn.out_proj.{last}"]
            for mine, theirs in names.items():
                tensors[f"{out}{theirs}.{last}"] = values[f"{stem}{mine}.{last}"]
        number += 1
    return tensors
