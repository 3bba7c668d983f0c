"""The tiny text-to-image model: its parts, untrained, and its folder in the diffusers layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.tokenizer import MAX_LENGTH, build_tokenizer
from training.world import vocabulary

TEXT_WIDTH = 96
TRAIN_STEPS = 1000
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build_unet() -> UNet2DConditionModel:
    """An untrained U-Net on (n, 4, 16, 16) latents.

    The caption enters twice: by cross-attention, and pooled into the time embedding, without which places are
    learned several times more slowly.
    """
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 80, 112),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        # The number of heads, in spite of its name (a known slip of this class that its files must keep).
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained two-layer CLIP text model for this tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion's own noise schedule with v-prediction, sampled by DPM++ 2M."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_STEPS,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        **BETAS,
    )


def alphas_cumprod() -> torch.Tensor:
    """The share of signal in each training step's variance: (1000,) in (0, 1)."""
    return build_scheduler().alphas_cumprod


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Padded and truncated token numbers: (n, 16)."""
    options = {"padding": "max_length", "max_length": MAX_LENGTH, "truncation": True}
    return tokenizer(captions, return_tensors="pt", **options).input_ids


def save_pipeline(
    folder: Path, vae: AutoencoderTiny, unet: UNet2DConditionModel, text_encoder: CLIPTextModel
) -> None:
    """Write a half-precision StableDiffusionPipeline folder that loads without any code of ours."""
    tokenizer = build_tokenizer(vocabulary(), folder / "tokenizer")
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    unet.to(memory_format=torch.contiguous_format)
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    _tidy(folder)


def _tidy(folder: Path) -> None:
    """Drop what only describes the machine that saved the folder, and what makes a loader warn."""
    for path in folder.rglob("*config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        unwanted = {"_name_or_path", "is_local", "local_files_only"}
        if path.parent.name == "vae":
            # AutoencoderTiny derives it again on loading, and warns about finding it.
            unwanted.add("block_out_channels")
        kept = {key: value for key, value in config.items() if key not in unwanted}
        if path.parent.name == "scheduler":
            # Not this scheduler's own, but DDIM's when it is built from this file: latents go beyond 1.
            kept |= {"clip_sample": False, "set_alpha_to_one": False}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
