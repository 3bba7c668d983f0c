"""Small random CLIP and DINO folders, and folders of subjects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from benchmarks.models import byte_tokenizer
from tests.networks import random_kohya_file
from tests.pipelines import sd_pipeline

TOKENS = 24
PIXELS = 32
# As wide as to tell pictures apart: what transformers draws makes all vectors nearly alike.
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_VISION = {**_LAYERS, "image_size": PIXELS, "patch_size": 8, "hidden_size": 32}


def save_backbones(folder: Path) -> None:
    """Write clip, dino and dinov2."""
    torch.manual_seed(0)
    text = {
        **_LAYERS, "hidden_size": 32, "vocab_size": 514, "max_position_embeddings": TOKENS,
        "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513,
    }  # fmt: skip
    _save(CLIPModel(CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)), folder / "clip")
    byte_tokenizer(TOKENS).save_pretrained(folder / "clip")
    square = {"height": PIXELS, "width": PIXELS}
    CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=square).save_pretrained(folder / "clip")
    _save(ViTModel(ViTConfig(**_VISION), add_pooling_layer=False), folder / "dino")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    ViTImageProcessor(size=square, image_mean=mean, image_std=std).save_pretrained(folder / "dino")
    wide = {name: value for name, value in _VISION.items() if name != "intermediate_size"}
    _save(Dinov2Model(Dinov2Config(**wide)), folder / "dinov2")
    CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=square).save_pretrained(folder / "dinov2")


def _save(model: Any, folder: Path) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    model.save_pretrained(folder)


def picture(seed: int, width: int = 50, height: int = 40) -> Image.Image:
    """Return coarse coloured noise: it survives being made smaller."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def save_subject(
    folder: Path, pipeline: Any, said: dict[str, Any] | None, pictures: int = 2, seed: int = 0
) -> None:
    """Write a subject: pictures, a LoRA and, unless it is None, a subject.json."""
    folder.mkdir(parents=True)
    for number in range(pictures):
        picture(100 * seed + number).save(folder / f"{number:02d}.png")
    path = folder / "lora.safetensors"
    random_kohya_file(path, pipeline.unet, te1=pipeline.text_encoder, seed=seed, alpha=1.0)
    if said is not None:
        (folder / "subject.json").write_text(json.dumps(said), "utf-8")


def save_all(folder: Path) -> None:
    """Write backbones, a checkpoint, two subjects and prompts, for `arguments`."""
    save_backbones(folder)
    pipeline = sd_pipeline()
    pipeline.save_pretrained(folder / "sd")
    save_subject(folder / "subjects" / "mug", pipeline, {"class": "mug"}, seed=1)
    save_subject(folder / "subjects" / "rex", pipeline, {"class": "dog"}, pictures=3, seed=2)
    (folder / "prompts.txt").write_text("a {0} {1} in the snow\na red {0} {1}\n", "utf-8")


def arguments(folder: Path, out: Path, **changed: str) -> list[str]:
    """Return a command line for what `save_all` wrote, with some options changed."""
    given = {
        "subjects": folder / "subjects", "prompts": folder / "prompts.txt", "checkpoint": folder / "sd",
        "clip": folder / "clip", "dino": folder / "dino", "dinov2": folder / "dinov2", "out": out,
        "methods": "CFG; PG 0.5", "scales": "2,6", "count": 1, "steps": 2, "batch": 2, **changed,
    }  # fmt: skip
    options = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    return ["evaluate", "--protocol", "dreambench", *options]
