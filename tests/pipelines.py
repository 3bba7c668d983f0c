"""Small random pipelines of the real families' shapes, and random networks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.models import byte_tokenizer
from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.hosts.diffusers import models_of
from lib_pg.networks import Network
from lib_pg.settings import Settings
from lib_pg.weak_branch.hooks import is_ours

TOKENS = 24
NEGATIVE = "ugly, blurry"

Make = Callable[..., Any]  # one of the functions that return a pipeline


def sd_pipeline(dtype: torch.dtype = torch.float32) -> StableDiffusionPipeline:
    """Return a pipeline shaped as SD 1.x: projections by convolution, one text encoder."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=8,
    )
    pipeline = StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(24)).eval(),
        tokenizer=byte_tokenizer(TOKENS),
        unet=unet.eval(),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _ready(pipeline, dtype)


def sdxl_pipeline(dtype: torch.dtype = torch.float32) -> StableDiffusionXLPipeline:
    """Return a pipeline shaped as SDXL: linear projections, two text encoders, pooled text and sizes."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(24, 48),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=40,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
        norm_num_groups=8,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(24)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(16)).eval(),
        tokenizer=byte_tokenizer(TOKENS),
        tokenizer_2=byte_tokenizer(TOKENS),
        unet=unet.eval(),
        scheduler=_scheduler(),
        add_watermarker=False,
    )
    return _ready(pipeline, dtype)


families = pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])


def settings(**controls: Any) -> Settings:
    """Return settings with guidance on."""
    return Settings.from_dict({"enabled": True, **controls})


def random_network(
    pipeline: Any, name: str = "subject", seed: int = 1, strength: float = 0.8, **more: Any
) -> Network:
    """Return a network on every linear layer and convolution of all models of a pipeline.

    It changes outputs by as much as they are large, so that a wrong omega cannot hide.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = {}
    for component, model in models_of(pipeline).items():
        deltas = {
            module: _random_delta(module.weight, generator)
            for module in model.modules()
            if isinstance(module, (nn.Linear, nn.Conv2d))
        }
        parts[component] = ActiveNetwork(name, deltas, strength)
    return Network(name, parts, **more)


def sample(pipeline: Any, prompt: str = "a sks dog", batch: int = 1, seed: int = 5, **options: Any) -> Tensor:
    """Sample latents with the pipeline's own call, each row from its own seed."""
    generators = [torch.Generator().manual_seed(seed + index) for index in range(batch)]
    call = {"num_inference_steps": 4, "guidance_scale": 5.0, "output_type": "latent"} | options
    with torch.no_grad():
        return pipeline(prompt=prompt, num_images_per_prompt=batch, generator=generators, **call).images


def hooks_of(pipeline: Any) -> int:
    """Count the hooks and our forwards on all modules of a pipeline's models."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + is_ours(vars(module).get("forward"))
        for model in models_of(pipeline).values()
        for module in model.modules()
    )


def weights_of(pipeline: Any) -> list[Tensor]:
    """Return copies of all weights of a pipeline's models."""
    return [
        weight.clone() for model in models_of(pipeline).values() for weight in model.state_dict().values()
    ]


def same_bits(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return |value - reference| / |reference|, in the Euclidean norm."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def _random_delta(weight: Tensor, generator: torch.Generator, rank: int = 3) -> LowRank:
    down = torch.randn(rank, *weight.shape[1:], generator=generator)
    up = torch.randn(weight.shape[0], rank, generator=generator)
    size = float((up @ down.flatten(1)).norm())
    delta = LowRank(down, up, scale=0.5 * float(weight.detach().float().norm()) / size)
    return delta.to(weight.device, weight.dtype)


def _vae() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    ).eval()


def _text_config(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def _scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )


def _ready(pipeline: Any, dtype: torch.dtype) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    for model in [pipeline.vae, *models_of(pipeline).values()]:
        nn.Module.to(model, dtype)  # diffusers' own method warns of layers these models do not have
    return pipeline
