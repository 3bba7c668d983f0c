"""What is measured: denoisers of real models' shapes with random weights, and what they are called with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.dit import DiT

_PIXELS = 8  # a side of what one latent pixel stands for


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        called: what its users call it, and what of it there is here.
        size: pixels a side that its users choose.
        make: makes the denoiser.
        channels: of the latent picture.
        text: tokens of a prompt and features of each.
        pooled: features of the prompt as a whole, with SDXL's sizes beside them; 0 where there are none.
    """

    called: str
    size: int
    make: Callable[[], nn.Module]
    channels: int
    text: tuple[int, int]
    pooled: int = 0


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A model in memory."""

    family: Family
    module: nn.Module

    @property
    def weight(self) -> Tensor:
        return next(self.module.parameters())

    def __call__(self, sample: Tensor, text: Tensor, timestep: Tensor) -> Tensor:
        """Return the prediction for the rows of `sample`, (rows, channels, height, width)."""
        if isinstance(self.module, DiT):
            return self.module(sample, timestep, text)
        added = self._added(len(sample))
        return self.module(sample, timestep, text, added_cond_kwargs=added, return_dict=False)[0]

    def latents(self, batch: int, size: int) -> Tensor:
        side = size // _PIXELS
        return self._noise(batch, self.family.channels, side, side)

    def text(self, batch: int, seed: int) -> Tensor:
        return self._noise(1, *self.family.text, seed=seed).expand(batch, -1, -1)

    def _added(self, rows: int) -> dict[str, Tensor] | None:
        if not self.family.pooled:
            return None
        pooled = self.weight.new_ones(rows, self.family.pooled)
        return {"text_embeds": pooled, "time_ids": self.weight.new_full((rows, 6), self.family.size)}

    def _noise(self, *shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator(self.weight.device).manual_seed(seed)
        return torch.randn(shape, generator=generator, device=self.weight.device).to(self.weight.dtype)


def make(name: str, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """Return a denoiser with random weights.

    Args:
        name: one of `FAMILIES`.
    """
    torch.manual_seed(0)
    with _default_dtype(dtype), device:
        module = FAMILIES[name].make()
    return Denoiser(FAMILIES[name], module.eval().requires_grad_(False))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _unet(**config: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from diffusers import UNet2DConditionModel  # the other families do without the package

        return UNet2DConditionModel(**config)

    return make


_SD15 = _unet(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
_SDXL = _unet(
    sample_size=128,
    block_out_channels=(320, 640, 1280),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=(1, 2, 10),
    attention_head_dim=(5, 10, 20),
    cross_attention_dim=2048,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
_TINY = _unet(
    sample_size=16,
    block_out_channels=(32, 64),
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=64,
    attention_head_dim=2,
    norm_num_groups=8,
)

FAMILIES: dict[str, Family] = {
    "sd15": Family("Stable Diffusion 1.5's U-Net", 512, _SD15, 4, (77, 768)),
    "sdxl": Family("SDXL's U-Net", 1024, _SDXL, 4, (77, 2048), pooled=1280),
    "sd3": Family(
        "12 of the 24 blocks of Stable Diffusion 3", 1024, lambda: DiT(1536, 12, 0, 16, 4096), 16, (333, 4096)
    ),
    "flux": Family(
        "5 of the 19 double and 10 of the 38 single blocks of Flux",
        1024,
        lambda: DiT(3072, 5, 10, 16, 4096, head=128),
        16,
        (512, 4096),
    ),
    "tiny": Family("a U-Net to try the benchmark with", 64, _TINY, 4, (16, 64)),
    "tiny-dit": Family(
        "a transformer to try the benchmark with", 64, lambda: DiT(64, 1, 2, 4, 64, 16), 4, (16, 64)
    ),
}
