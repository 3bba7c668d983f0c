"""A pipeline of a real model's shape with random weights."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def sd15_pipeline() -> StableDiffusionPipeline:
    """Return a pipeline whose U-Net is Stable Diffusion 1.5's (860 million parameters, float32).

    The text encoder is a one-layer stand-in of the right width, the VAE is small: neither runs in a step.
    """
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    text = CLIPTextConfig(
        vocab_size=514,
        hidden_size=768,
        intermediate_size=768,
        num_hidden_layers=1,
        num_attention_heads=12,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return StableDiffusionPipeline(
        vae=AutoencoderTiny(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=byte_tokenizer(),
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def byte_tokenizer(tokens: int = 77) -> CLIPTokenizer:
    """Return a tokenizer that knows single bytes only, for prompts of up to `tokens` with both ends."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*letters, *(f"{x}</w>" for x in letters)])}
    vocabulary |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder) / "vocab.json", Path(folder) / "merges.txt")
        files[0].write_text(json.dumps(vocabulary), encoding="utf-8")
        files[1].write_text("#version: 0.2\n", encoding="utf-8")
        return CLIPTokenizer(*map(str, files), model_max_length=tokens)
