"""Trains the autoencoder: 64x64 pictures to 16x16x4 latents and back.

python -m training.train_vae --out build/training/vae
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from training.common import base_parser, cosine_rate, draw_all, load_state, save_state, start, to_unit
from training.world import STAR, random_scenes

LATENT_NOISE = 0.03


def build_vae() -> AutoencoderTiny:
    """An untrained autoencoder with a spatial factor of 4 (three stages)."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(0, 1, 2),
        num_decoder_blocks=(3, 2, 1),
    )


def _edges(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return picture.diff(dim=-1), picture.diff(dim=-2)


def detail_weight(picture: torch.Tensor) -> torch.Tensor:
    """Weights (n, 1, 64, 64) from 1 to 5, high near edges: eyes and patterns are few pixels among many."""
    across, down = (edge.abs().mean(1, keepdim=True) for edge in _edges(picture))
    strength = F.pad(across, (0, 1)) + F.pad(down, (0, 0, 0, 1))
    return 1 + 4 * F.max_pool2d(strength, 5, stride=1, padding=2).clamp(max=1)


def reconstruction_loss(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Weighted L1 on pixels, and L1 on their differences, which keeps outlines crisp."""
    pixels = (detail_weight(truth) * (guess - truth).abs()).mean()
    return pixels + sum(F.l1_loss(a, b) for a, b in zip(_edges(guess), _edges(truth), strict=True))


def loss_of(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Training loss of a batch of pictures in [-1, 1].

    Two terms shape the latents for diffusion: noise makes the decoder forgiving, and the moments keep every
    channel at mean 0 and standard deviation 1.
    """
    latents = vae.encoder(pictures)
    moments = latents.mean((0, 2, 3)).square().mean() + (latents.std((0, 2, 3)) - 1).square().mean()
    noisy = latents + LATENT_NOISE * torch.randn_like(latents)
    return reconstruction_loss(vae.decoder(noisy), pictures) + 0.1 * moments


@torch.no_grad()
def through_autoencoder(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, 64, 64) uint8 as the autoencoder gives them back; on the processor, wherever it is."""
    seen = vae.decode(vae.encode(to_unit(pictures).to(vae.device)).latents).sample
    return seen.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()


@torch.no_grad()
def measure_vae(vae: AutoencoderTiny, pictures: torch.Tensor) -> tuple[float, float]:
    """Peak signal-to-noise ratio in dB, and the latents' standard deviation, of pictures in [-1, 1]."""
    latents = vae.encoder(pictures)
    error = (vae.decoder(latents).clamp(-1, 1) - pictures).square().mean() / 4
    return float(-10 * error.log10()), float(latents.std())


def main() -> None:
    """Train, resume if a state file is there, and save in the diffusers layout."""
    parser = base_parser(__doc__ or "", "build/training/vae", 6200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--scenes", type=int, default=12000)
    parser.add_argument("--init", type=Path, help="folder of an earlier autoencoder to go on from")
    args = parser.parse_args()
    start(args.seed, args.threads)
    pictures = draw_all(random_scenes(args.scenes, args.seed))
    vae = AutoencoderTiny.from_pretrained(args.init) if args.init else build_vae()
    vae = vae.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    first = 0
    if state := load_state(args.out / "state.pt"):
        vae.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    held_out = to_unit(draw_all(random_scenes(256, args.seed + 1) + STAR.training_scenes()))
    begun = time.monotonic()
    for step in range(first, args.steps):
        batch = to_unit(pictures[torch.randint(len(pictures), (args.batch,))])
        for group in optimiser.param_groups:
            group["lr"] = args.rate * cosine_rate(step, args.steps, 50)
        loss = loss_of(vae, batch.contiguous(memory_format=torch.channels_last))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 200 == 0:
            quality, spread = measure_vae(vae, held_out)
            print(
                f"{step + 1} loss {loss.item():.4f} psnr {quality:.2f} latent std {spread:.3f} "
                f"{time.monotonic() - begun:.0f} s",
                flush=True,
            )
            state = {"model": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            save_state(args.out / "state.pt", **state)
    vae.register_to_config(scaling_factor=round(1 / measure_vae(vae, held_out)[1], 4))
    vae.to(memory_format=torch.contiguous_format).save_pretrained(args.out)


if __name__ == "__main__":
    main()
