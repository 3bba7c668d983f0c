"""Trains a subject's LoRA on four pictures and saves it as a kohya .safetensors file.

python -m training.train_subject --base build/training/base/pipeline --out build/training/subject
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import nn

from training.adapters import LoRA, attach, save_adapters
from training.common import BUNDLED, base_parser, start
from training.model import TRAIN_STEPS, alphas_cumprod, token_ids
from training.train_base import TextToLatent, encode_scenes, velocity_loss
from training.world import STAR, SUBJECTS, Subject, full_caption

FILE_NAME = "sks_star.safetensors"


def pictures_of(
    pipeline: StableDiffusionPipeline, subject: Subject, bare: int = 0, told: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """A subject's training pictures as latents (n, 4, 16, 16) and tokens (n, 16); all on the processor.

    Args:
        pipeline: gives autoencoder and tokenizer.
        subject: what is taught.
        bare: how often each picture is there with a caption that names the subject alone, from which the
            subject learns to bring size, background and place of its pictures along.
        told: how often with a caption that tells these.
    """
    scenes = subject.training_scenes()
    captions = [full_caption(scene, subject.noun) for scene in scenes] * told
    captions += [f"a {subject.noun}"] * len(scenes) * bare
    latents = encode_scenes(pipeline.vae, scenes).values.float()
    return latents.repeat(told + bare, 1, 1, 1), token_ids(pipeline.tokenizer, captions)


def teach(
    model: TextToLatent,
    weights: Sequence[nn.Parameter],
    pictures: tuple[torch.Tensor, torch.Tensor],
    steps: int,
    batch: int,
    rate: float,
) -> Iterator[int]:
    """Train weights of a model, and tell of every step to whoever saves them on the way.

    What is drawn at random comes from the processor's generator, whatever device the model is on.

    Args:
        model: with hooks of adapters, or with weights of its own that are trained.
        weights: those that are trained.
        pictures: of `pictures_of`.
        steps: how many.
        batch: pictures a step.
        rate: learning rate.

    Yields:
        The number of steps done, after each.
    """
    latents, ids = pictures
    device = weights[0].device
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=1e-2)
    signal = alphas_cumprod()

    def on_device(noisy: torch.Tensor, steps: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        return model(noisy.to(device), steps.to(device), told.to(device)).cpu()

    for step in range(1, steps + 1):
        chosen = torch.randint(len(latents), (batch,))
        noise = torch.randint(TRAIN_STEPS, (batch,))
        loss = velocity_loss(on_device, latents[chosen], ids[chosen], signal, noise)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        yield step


def lora_metadata(name: str, rank: int, alpha: float, steps: int, seed: int, more: dict[str, str]) -> dict:
    """What trainers write beside a LoRA."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": f'{{"conv_dim": "{rank}", "conv_alpha": "{alpha}"}}',
        "ss_max_train_steps": str(steps),
        "ss_seed": str(seed),
        "ss_v2": "False",
        "ss_output_name": name,
        **more,
    }


def main() -> None:
    """Train the adapters; save them with the usual ss_ metadata, and the four pictures side by side."""
    parser = base_parser(__doc__ or "", "build/training/subject", 160)
    parser.add_argument("--base", type=Path, default=BUNDLED / "pipeline", help="pipeline to personalise")
    parser.add_argument("--subject", choices=[each.name for each in SUBJECTS], default=STAR.name)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--alpha", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    start(args.seed, args.threads)
    subject = next(each for each in SUBJECTS if each.name == args.subject)
    pipeline = StableDiffusionPipeline.from_pretrained(args.base, torch_dtype=torch.float32)
    model = TextToLatent(pipeline.unet, pipeline.text_encoder).requires_grad_(False)
    pictures = pictures_of(pipeline, subject)
    adapters, _ = attach(
        pipeline.unet, pipeline.text_encoder, lambda layer: LoRA(layer, args.rank, args.alpha)
    )
    weights = [weight for adapter in adapters.values() for weight in adapter.parameters()]
    for _ in teach(model, weights, pictures, args.steps, args.batch, args.rate):
        pass
    more = {
        "ss_learning_rate": str(args.rate),
        "ss_total_batch_size": str(args.batch),
        "ss_num_train_images": str(len(pictures[0])),
    }
    name = FILE_NAME if subject == STAR else f"sks_{subject.name}.safetensors"
    metadata = lora_metadata(
        name.removesuffix(".safetensors"), args.rank, args.alpha, args.steps, args.seed, more
    )
    save_adapters(args.out / name, adapters, metadata)
    strip = np.concatenate([scene.draw() for scene in subject.training_scenes()], axis=1)
    Image.fromarray(strip).save(args.out / "subject.png")


if __name__ == "__main__":
    main()
