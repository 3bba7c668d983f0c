"""Trains the subject's LoRA on four pictures and saves it as a kohya .safetensors file.

python -m training.train_subject --base build/training/base/pipeline --out build/training/subject
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from training.common import BUNDLED, base_parser, start
from training.lora import attach, save_adapters
from training.model import TRAIN_STEPS, alphas_cumprod, token_ids
from training.train_base import TextToLatent, encode_scenes, velocity_loss
from training.world import SUBJECT_TOKEN, full_caption, subject_scenes

FILE_NAME = "sks_star.safetensors"


def main() -> None:
    """Train the adapters; save them with the usual ss_ metadata, and the four pictures side by side."""
    parser = base_parser(__doc__ or "", "build/training/subject", 160)
    parser.add_argument("--base", type=Path, default=BUNDLED / "pipeline", help="pipeline to personalise")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--alpha", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    start(args.seed, args.threads)
    pipeline = StableDiffusionPipeline.from_pretrained(args.base, torch_dtype=torch.float32)
    model = TextToLatent(pipeline.unet, pipeline.text_encoder).requires_grad_(False)
    scenes = subject_scenes()
    latents = encode_scenes(pipeline.vae, scenes).values.float()
    ids = token_ids(pipeline.tokenizer, [full_caption(scene, f"{SUBJECT_TOKEN} star") for scene in scenes])
    adapters, _ = attach(pipeline.unet, pipeline.text_encoder, args.rank, args.alpha)
    weights = [weight for adapter in adapters.values() for weight in adapter.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=args.rate, weight_decay=1e-2)
    signal, total = alphas_cumprod(), 0.0
    for step in range(args.steps):
        chosen = torch.randint(len(scenes), (args.batch,))
        steps = torch.randint(TRAIN_STEPS, (args.batch,))
        loss = velocity_loss(model, latents[chosen], ids[chosen], signal, steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        total += loss.item()
        if (step + 1) % 50 == 0:
            print(f"{step + 1} loss {total / 50:.4f}", flush=True)
            total = 0.0
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(args.rank),
        "ss_network_alpha": str(args.alpha),
        "ss_network_args": f'{{"conv_dim": "{args.rank}", "conv_alpha": "{args.alpha}"}}',
        "ss_learning_rate": str(args.rate),
        "ss_max_train_steps": str(args.steps),
        "ss_total_batch_size": str(args.batch),
        "ss_num_train_images": str(len(scenes)),
        "ss_seed": str(args.seed),
        "ss_v2": "False",
        "ss_output_name": FILE_NAME.removesuffix(".safetensors"),
    }
    save_adapters(args.out / FILE_NAME, adapters, metadata)
    strip = np.concatenate([scene.draw() for scene in scenes], axis=1)
    Image.fromarray(strip).save(args.out / "subject.png")


if __name__ == "__main__":
    main()
