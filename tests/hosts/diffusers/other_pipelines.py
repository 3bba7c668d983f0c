"""Tiny pipelines of diffusers that make more of a batch than text to image does, and what they need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    LCMScheduler,
    MotionAdapter,
    T2IAdapter,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from tests.pipelines import sd_pipeline, sdxl_pipeline

SIZE = 64
FRAMES = 3
CFG = ("unconditional", "prompt")
PAG = ("unconditional", "prompt", "perturbed")
Parts = Callable[[UNet2DConditionModel], dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A pipeline.

    Attributes:
        name: of its class in diffusers.
        options: of its call.
        parts: what it has beside, or in place of, a text-to-image pipeline's, by the U-Net.
        channels: what its U-Net reads.
        branches: of its batch.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts = lambda unet: {}
    channels: int = 4
    branches: tuple[str, ...] = CFG

    def make(self, **more: Any) -> Any:
        torch.manual_seed(3)
        base = (sdxl_pipeline if "XL" in self.name else sd_pipeline)()
        _widen(base.unet, self.channels)
        kind = getattr(diffusers, self.name)
        taken = inspect.signature(kind.__init__).parameters
        there = {**base.components, "requires_safety_checker": False, "depth_estimator": None}
        parts = {name: part for name, part in there.items() if name in taken} | self.parts(base.unet) | more
        pipeline = kind(**parts)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.unet.eval()
        return pipeline


def picture(channels: int = 3) -> Tensor:
    return torch.rand(1, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(channels))


def controlnet(unet: UNet2DConditionModel) -> dict[str, Any]:
    return {
        "controlnet": _shaken(ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 8)))
    }


def union(unet: UNet2DConditionModel) -> dict[str, Any]:
    width = unet.config.block_out_channels[0]
    known = inspect.signature(ControlNetUnionModel.__init__).parameters
    config = {name: value for name, value in unet.config.items() if name in known}
    config |= {"num_trans_channel": width, "num_proj_channel": width, "num_trans_head": 2}
    return {
        "controlnet": _shaken(ControlNetUnionModel(**config, conditioning_embedding_out_channels=(8, 8, 8)))
    }


def adapter(unet: UNet2DConditionModel) -> dict[str, Any]:
    xl = unet.config.addition_embed_type is not None
    kind, factor = ("full_adapter_xl", 8) if xl else ("full_adapter", 4)
    channels = list(unet.config.block_out_channels)
    return {
        "adapter": T2IAdapter(
            channels=channels, num_res_blocks=1, downscale_factor=factor, adapter_type=kind
        ).eval()
    }


def motion(unet: UNet2DConditionModel) -> dict[str, Any]:
    module = MotionAdapter(
        block_out_channels=tuple(unet.config.block_out_channels),
        motion_layers_per_block=1,
        motion_norm_num_groups=8,
        motion_num_attention_heads=2,
        motion_max_seq_length=8,
    )
    return {"motion_adapter": _shaken(module)}


def refiner(unet: UNet2DConditionModel) -> dict[str, Any]:
    """SDXL's refiner: the second text encoder alone, an aesthetic score in place of one size."""
    changes = {"cross_attention_dim": 16, "projection_class_embeddings_input_dim": 16 + 5 * 8}
    return {
        "unet": UNet2DConditionModel.from_config(unet.config, **changes),
        "text_encoder": None,
        "tokenizer": None,
        "requires_aesthetics_score": True,
        "force_zeros_for_empty_prompt": False,
    }


def lcm(unet: UNet2DConditionModel) -> dict[str, Any]:
    """A model that knows CFG by heart."""
    return {
        "unet": UNet2DConditionModel.from_config(unet.config, time_cond_proj_dim=8),
        "scheduler": LCMScheduler(),
    }


_PICTURE, _MASK, _VIDEO = (
    {"image": picture()},
    {"mask_image": (picture(1) > 0.5).float()},
    {"num_frames": FRAMES},
)
_STRENGTH = {"strength": 0.9}
_CONTROL, _MODE = {"control_image": picture()}, {"control_mode": 0}
_CHANGED = {**_PICTURE, **_STRENGTH}
_FRAMES = [picture()[0]] * FRAMES
CASES = (
    Case("StableDiffusionPipeline"),
    Case("StableDiffusionImg2ImgPipeline", _CHANGED),
    Case("StableDiffusionInpaintPipeline", {**_CHANGED, **_MASK}),
    Case("StableDiffusionInpaintPipeline", {**_CHANGED, **_MASK}, channels=9),
    Case("StableDiffusionDepth2ImgPipeline", {**_CHANGED, "depth_map": picture(1)[0]}, channels=5),
    Case("StableDiffusionAdapterPipeline", _PICTURE, adapter),
    Case("StableDiffusionControlNetPipeline", _PICTURE, controlnet),
    Case("StableDiffusionControlNetPipeline", {**_PICTURE, "guess_mode": True}, controlnet),
    Case("StableDiffusionControlNetImg2ImgPipeline", {**_CHANGED, **_CONTROL}, controlnet),
    Case("StableDiffusionControlNetInpaintPipeline", {**_CHANGED, **_MASK, **_CONTROL}, controlnet),
    Case("StableDiffusionXLPipeline"),
    Case("StableDiffusionXLImg2ImgPipeline", _CHANGED),
    Case("StableDiffusionXLImg2ImgPipeline", _CHANGED, refiner),
    Case("StableDiffusionXLInpaintPipeline", {**_CHANGED, **_MASK}),
    Case("StableDiffusionXLAdapterPipeline", _PICTURE, adapter),
    Case("StableDiffusionXLControlNetPipeline", _PICTURE, controlnet),
    Case("StableDiffusionXLControlNetImg2ImgPipeline", {**_CHANGED, **_CONTROL}, controlnet),
    Case("StableDiffusionXLControlNetInpaintPipeline", {**_CHANGED, **_MASK, **_CONTROL}, controlnet),
    Case("StableDiffusionXLControlNetUnionPipeline", {**_CONTROL, **_MODE}, union),
    Case("StableDiffusionXLControlNetUnionImg2ImgPipeline", {**_CHANGED, **_CONTROL, **_MODE}, union),
    Case(
        "StableDiffusionXLControlNetUnionInpaintPipeline", {**_CHANGED, **_MASK, **_CONTROL, **_MODE}, union
    ),
    Case("StableDiffusionPAGPipeline", branches=PAG),
    Case("StableDiffusionPAGPipeline", {"guidance_scale": 1.0}, branches=("prompt", "perturbed")),
    Case("StableDiffusionPAGPipeline", {"pag_scale": 0.0}),
    Case("StableDiffusionPAGImg2ImgPipeline", _CHANGED, branches=PAG),
    Case("StableDiffusionPAGInpaintPipeline", {**_CHANGED, **_MASK}, branches=PAG),
    Case("StableDiffusionControlNetPAGPipeline", _PICTURE, controlnet, branches=PAG),
    Case(
        "StableDiffusionControlNetPAGInpaintPipeline", {**_CHANGED, **_MASK, **_CONTROL}, controlnet, 4, PAG
    ),
    Case("StableDiffusionXLPAGPipeline", branches=PAG),
    Case("StableDiffusionXLPAGImg2ImgPipeline", _CHANGED, branches=PAG),
    Case("StableDiffusionXLPAGInpaintPipeline", {**_CHANGED, **_MASK}, branches=PAG),
    Case("StableDiffusionXLControlNetPAGPipeline", _PICTURE, controlnet, branches=PAG),
    Case("StableDiffusionXLControlNetPAGImg2ImgPipeline", {**_CHANGED, **_CONTROL}, controlnet, branches=PAG),
    Case(
        "StableDiffusionInstructPix2PixPipeline",
        _PICTURE,
        channels=8,
        branches=("prompt", "image", "unconditional"),
    ),
    Case("AnimateDiffPipeline", _VIDEO, motion),
    Case("AnimateDiffSDXLPipeline", _VIDEO, motion),
    Case(
        "AnimateDiffControlNetPipeline",
        {**_VIDEO, "conditioning_frames": _FRAMES},
        lambda unet: {**motion(unet), **controlnet(unet)},
    ),
    Case("AnimateDiffVideoToVideoPipeline", {"video": _FRAMES, **_STRENGTH}, motion),
    Case("AnimateDiffPAGPipeline", _VIDEO, motion, branches=PAG),
    Case("LatentConsistencyModelPipeline", {}, lcm, branches=("prompt",)),
)


def with_picture_prompt(pipeline: Any) -> dict[str, Any]:
    """Load a random IP-Adapter; return what a call needs for it: a negative picture and the prompt's."""
    unet, width, tokens = pipeline.unet, 6, 4  # diffusers takes four for granted
    text = unet.config.cross_attention_dim
    layers, number = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            out = len(unet.get_submodule(name.removesuffix(".processor")).to_k.weight)
            layers |= {f"{number}.to_{part}_ip.weight": torch.randn(out, text) for part in "kv"}
            number += 2
    projection = {
        "proj.weight": torch.randn(text * tokens, width),
        "proj.bias": torch.randn(text * tokens),
        "norm.weight": torch.ones(text),
        "norm.bias": torch.zeros(text),
    }
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": layers}])
    embeds = torch.randn(2, 1, width, generator=torch.Generator().manual_seed(4))
    return {"ip_adapter_image_embeds": [embeds]}


def _widen(unet: UNet2DConditionModel, channels: int) -> None:
    if channels != unet.config.in_channels:
        unet.conv_in = nn.Conv2d(channels, unet.conv_in.out_channels, 3, padding=1)
        unet.register_to_config(in_channels=channels)


def _shaken(module: nn.Module) -> nn.Module:
    """Return a module whose weights that begin at zero do not, so that it has an effect."""
    with torch.no_grad():
        for weight in module.parameters():
            if not weight.any():
                weight.normal_(std=0.1)
    return module.eval()
