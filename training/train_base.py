"""Trains the text encoder and the U-Net on latents of drawn scenes with v-prediction.

    python -m training.train_base --vae build/training/vae --out build/training/base

Scenes are drawn and encoded once; captions are made anew for every batch. An interrupted run resumes from the
state file in its output folder.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from training.common import (
    Average,
    base_parser,
    cosine_rate,
    draw_all,
    load_state,
    save_state,
    start,
    to_unit,
)
from training.model import (
    TRAIN_STEPS,
    alphas_cumprod,
    build_text_encoder,
    build_unet,
    save_pipeline,
    token_ids,
)
from training.tokenizer import build_tokenizer
from training.world import PLACES, SIZES, Scene, random_caption, random_scenes, vocabulary

# Pixels a latent, along each side.
FACTOR = 4


class TextToLatent(nn.Module):
    """The trained half of the model: caption to text states to the U-Net's prediction."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        # Faster on processors.
        self.unet = unet.to(memory_format=torch.channels_last)
        self.text_encoder = text_encoder

    def forward(self, noisy: torch.Tensor, steps: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Predicted velocity (n, 4, 16, 16) of noisy latents at training steps (n,) given tokens (n, 16)."""
        states = self.text_encoder(ids).last_hidden_state
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return self.unet(noisy, steps, encoder_hidden_states=states).sample


@dataclass
class Latents:
    """Encoded scenes: scaled latents (n, 4, 16, 16) in half precision beside what they show."""

    values: torch.Tensor
    scenes: list[Scene]


@torch.no_grad()
def encode_scenes(vae: AutoencoderTiny, scenes: list[Scene], chunk: int = 250) -> Latents:
    """Draw and encode scenes a chunk at a time."""
    parts = [
        vae.encode(to_unit(draw_all(scenes[first : first + chunk]))).latents * vae.config.scaling_factor
        for first in range(0, len(scenes), chunk)
    ]
    return Latents(torch.cat(parts).half(), scenes)


def cached_latents(vae: AutoencoderTiny, count: int, seed: int, cache: Path) -> Latents:
    """The latents of the first `count` scenes of a seed, from the cache file if it is there."""
    scenes = random_scenes(count, seed)
    if state := load_state(cache):
        return Latents(state["values"], scenes)
    latents = encode_scenes(vae, scenes)
    save_state(cache, values=latents.values)
    return latents


def draw_steps(count: int) -> torch.Tensor:
    """Training steps (count,), two thirds of them where the noise is as strong as the shapes it hides."""
    middle = (500 + 180 * torch.randn(count)).round().long()
    uniform = torch.randint(TRAIN_STEPS, (count,))
    return torch.where((torch.rand(count) < 2 / 3) & (middle >= 0) & (middle < TRAIN_STEPS), middle, uniform)


@cache
def region_weight(place: str, size: str) -> torch.Tensor:
    """Loss weights (1, 16, 16) of mean 1, four times higher where a caption puts the object.

    Backgrounds are learned within minutes; what is left to learn is inside the object. The region follows
    from captioned words alone, so the weights do not pull the prediction towards objects.
    """
    x, y = (value / FACTOR - 0.5 for value in PLACES[place])
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    inside = (rows - y) ** 2 + (columns - x) ** 2 < ((SIZES[size] + 3) / FACTOR) ** 2
    weight = 1 + 3 * inside.float()
    return (weight / weight.mean())[None]


def velocity_loss(
    model: nn.Module,
    latents: torch.Tensor,
    ids: torch.Tensor,
    signal: torch.Tensor,
    steps: torch.Tensor,
    weight: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Mean squared error of the predicted velocity.

    Args:
        model: called as model(noisy, steps, ids).
        latents: clean latents (n, 4, 16, 16).
        ids: token numbers (n, 16).
        signal: alphas_cumprod (1000,).
        steps: training steps (n,), the amount of noise.
        weight: loss weights that broadcast to the latents.
    """
    noise = torch.randn_like(latents)
    keep = signal[steps].sqrt().view(-1, 1, 1, 1)
    add = (1 - signal[steps]).sqrt().view(-1, 1, 1, 1)
    guess = model(keep * latents + add * noise, steps, ids)
    return (weight * (guess - (keep * noise - add * latents)).square()).mean()


def train(
    args: argparse.Namespace,
    model: TextToLatent,
    average: Average,
    latents: Latents,
    tokenizer: CLIPTokenizer,
) -> None:
    """Run the remaining steps, saving the state every `save_every` steps."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-3)
    first = 0
    if state := load_state(args.out / "state.pt"):
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    torch.manual_seed(args.seed + first)
    rng = np.random.default_rng((args.seed, first))
    signal, begun, total = alphas_cumprod(), time.monotonic(), 0.0
    for step in range(first, args.steps):
        for group in optimiser.param_groups:
            group["lr"] = args.rate * cosine_rate(step, args.steps, 300)
        chosen = torch.randint(len(latents.values), (args.batch,))
        scenes = [latents.scenes[i] for i in chosen.tolist()]
        ids = token_ids(tokenizer, [random_caption(scene, rng) for scene in scenes])
        weight = torch.stack([region_weight(scene.place, scene.size) for scene in scenes])
        clean = latents.values[chosen].float()
        loss = velocity_loss(model, clean, ids, signal, draw_steps(args.batch), weight)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        total += loss.item()
        if (step + 1) % 100 == 0:
            print(f"{step + 1} loss {total / 100:.4f} {time.monotonic() - begun:.0f} s", flush=True)
            total = 0.0
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            save_state(
                args.out / "state.pt",
                model=model.state_dict(),
                average=average.module.state_dict(),
                optimiser=optimiser.state_dict(),
                step=step + 1,
            )


def main() -> None:
    """Train and save; with --export-only, save the averaged weights of a run that may still be going on."""
    parser = base_parser(__doc__ or "", "build/training/base", 8200)
    parser.add_argument("--vae", type=Path, default=Path("build/training/vae"), help="folder of train_vae")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--scenes", type=int, default=40000)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--export-only", action="store_true", help="write the saved state's pipeline folder")
    args = parser.parse_args()
    start(args.seed, args.threads)
    vae = AutoencoderTiny.from_pretrained(args.vae)
    tokenizer = build_tokenizer(vocabulary(), args.out / "tokenizer")
    model = TextToLatent(build_unet(), build_text_encoder(tokenizer))
    average = Average(model, 0.999)
    if args.export_only:
        state = load_state(args.out / "state.pt")
        if state is None:
            parser.error(f"no state.pt in {args.out}")
        average.module.load_state_dict(state["average"])
    else:
        latents = cached_latents(vae, args.scenes, args.seed, args.out / "latents.pt")
        train(args, model, average, latents, tokenizer)
    save_pipeline(args.out / "pipeline", vae, average.module.unet, average.module.text_encoder)


if __name__ == "__main__":
    main()
