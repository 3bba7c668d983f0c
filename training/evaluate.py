"""Measures generated pictures: the base model's captions, or the subject under CFG, AG and PG.

python -m training.evaluate drawings --count 400
python -m training.evaluate base --count 210 --seed 7
python -m training.evaluate subject --seeds 4 --omega 0.5 0.75
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from lib_pg.cli.output import replace_file
from lib_pg.deltas import ActiveNetwork
from lib_pg.deltas.merge import add_networks
from lib_pg.formats import match, read_network
from training.common import BUNDLED, start
from training.measure import fidelity, matches, read
from training.model import token_ids
from training.train_base import TextToLatent
from training.train_subject import FILE_NAME
from training.world import (
    PLACES,
    SIZES,
    STAR,
    Scene,
    full_caption,
    random_scenes,
)

CONTEXT = ("background", "place", "size")
CHUNK = 35


def noise(count: int, seed: int) -> torch.Tensor:
    """Starting latents: (count, 4, 16, 16)."""
    return torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def stock_pictures(
    pipeline: StableDiffusionPipeline, captions: list[str], seed: int, scale: float, steps: int
) -> np.ndarray:
    """Pictures from the unchanged pipeline: (n, 64, 64, 3) uint8."""
    start_latents, parts = noise(len(captions), seed), []
    for first in range(0, len(captions), CHUNK):
        chunk = slice(first, first + CHUNK)
        parts.append(
            pipeline(
                captions[chunk],
                latents=start_latents[chunk],
                guidance_scale=scale,
                num_inference_steps=steps,
                height=64,
                width=64,
                output_type="np",
            ).images
        )
    return np.round(np.concatenate(parts) * 255).astype(np.uint8)


@torch.no_grad()
def guided_pictures(
    pipeline: StableDiffusionPipeline,
    branches: tuple[TextToLatent, TextToLatent],
    prompts: tuple[list[str], list[str]],
    seed: int,
    scale: float,
    steps: int,
) -> np.ndarray:
    """Pictures under D = D_weak + scale * (D_full - D_weak), the formula written out with two models.

    Args:
        pipeline: gives the tokenizer, the scheduler and the autoencoder.
        branches: the full and the weak model.
        prompts: what each branch is told, as many captions as pictures.
        seed: seed of the starting latents.
        scale: guidance scale; 1 is the full model alone.
        steps: sampling steps.

    Returns:
        Pictures (n, 64, 64, 3) uint8.
    """
    full_ids, weak_ids = (token_ids(pipeline.tokenizer, captions) for captions in prompts)
    scheduler = copy.deepcopy(pipeline.scheduler)
    scheduler.set_timesteps(steps)
    latents = noise(len(full_ids), seed) * scheduler.init_noise_sigma
    for step in scheduler.timesteps:
        given = scheduler.scale_model_input(latents, step)
        times = step.expand(len(latents))
        full, weak = branches[0](given, times, full_ids), branches[1](given, times, weak_ids)
        latents = scheduler.step(weak + scale * (full - weak), step, latents).prev_sample
    pictures = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    pictures = pictures.clamp(-1, 1).add(1).mul(127.5).round().byte()
    return pictures.permute(0, 2, 3, 1).numpy()


def contact_sheet(pictures: np.ndarray, columns: int, path: Path, enlarge: int = 4) -> None:
    """Save pictures side by side, enlarged without smoothing."""
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    sheet = Image.fromarray(np.concatenate([row for row in rows if row.shape == rows[0].shape]))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * enlarge, sheet.height * enlarge), Image.Resampling.NEAREST).save(path)


def attribute_shares(pictures: Iterable[np.ndarray], scenes: list[Scene]) -> dict[str, float]:
    """Share of pictures with each attribute of their scene right, and with all of them."""
    found = [matches(read(picture), scene) for picture, scene in zip(pictures, scenes, strict=True)]
    scores = {part: round(float(np.mean([one[part] for one in found])), 4) for part in found[0]}
    return {**scores, "all": round(float(np.mean([all(one.values()) for one in found])), 4)}


def score_drawings(args: argparse.Namespace) -> dict[str, float]:
    """How far the rules themselves can be trusted: the same measures on true drawings."""
    scenes = random_scenes(args.count, args.seed)
    kinds = {
        "subject": unseen_contexts(5),
        "other stars": [s for s in scenes if s.shape == "star"],
        "other shapes": [s for s in scenes if s.shape != "star"],
    }
    likeness = {
        f"fidelity of {kind}": round(float(np.mean([fidelity(s.draw()) for s in members])), 4)
        for kind, members in kinds.items()
    }
    return {**attribute_shares((s.draw() for s in scenes), scenes), **likeness}


def score_base(args: argparse.Namespace, pipeline: StableDiffusionPipeline) -> dict[str, float]:
    """Share of pictures with each attribute right, for captions that name all of them."""
    scenes = random_scenes(args.count, args.seed)
    pictures = stock_pictures(pipeline, [full_caption(s) for s in scenes], args.seed, args.scale, args.steps)
    if args.sheet:
        contact_sheet(pictures[:40], 8, args.sheet)
    return attribute_shares(pictures, scenes)


def unseen_contexts(seeds: int) -> list[Scene]:
    """The subject before every other background, at every place and size in turn, `seeds` times over."""
    names = ("beach", "meadow", "night", "snow", "desert", "sea")
    spots = [(place, size) for size in SIZES for place in PLACES]
    count = len(names) * seeds
    return [STAR.scene(names[i % len(names)], *spots[(7 * i) % len(spots)]) for i in range(count)]


def score_subject(args: argparse.Namespace, pipeline: StableDiffusionPipeline) -> dict[str, dict[str, float]]:
    """Alignment and fidelity of the subject in unseen contexts, for CFG and for AG and PG at each omega."""
    network = read_network(args.lora)
    plain = TextToLatent(pipeline.unet, pipeline.text_encoder)

    def at(strength: float) -> TextToLatent:
        model = copy.deepcopy(plain)
        deltas = match(network, {"unet": model.unet, "te1": model.text_encoder}).deltas
        add_networks([ActiveNetwork(network.name, part) for part in deltas.values()], strength)
        return model

    scenes = unseen_contexts(args.seeds)
    told = [full_caption(scene, STAR.noun) for scene in scenes]
    null, full = [""] * len(told), at(1.0)
    arms = {"CFG": (full, null)}
    for omega in args.omega:
        arms |= {f"AG {omega}": (at(omega), told), f"PG {omega}": (at(omega), null)}
    scores, shown = {}, []
    for name, (weak, weak_told) in arms.items():
        prompts = (told, weak_told)
        pictures = guided_pictures(pipeline, (full, weak), prompts, args.seed, args.scale, args.steps)
        found = [matches(read(picture), scene) for picture, scene in zip(pictures, scenes, strict=True)]
        aligned = {part: round(float(np.mean([one[part] for one in found])), 4) for part in CONTEXT}
        aligned["alignment"] = round(float(np.mean([all(one[part] for part in CONTEXT) for one in found])), 4)
        scores[name] = {**aligned, "fidelity": round(float(np.mean([fidelity(p) for p in pictures])), 4)}
        shown.append(pictures[:12])
        print(name, scores[name], flush=True)
    if args.sheet:
        contact_sheet(np.concatenate(shown), min(12, len(told)), args.sheet)
    return scores


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the measurement that was asked for."""
    if args.what == "drawings":
        return score_drawings(args)
    pipeline = StableDiffusionPipeline.from_pretrained(args.pipeline, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return score_base(args, pipeline) if args.what == "base" else score_subject(args, pipeline)


def main() -> None:
    """Parse the options, measure, print, and add the result to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("drawings", "base", "subject"))
    parser.add_argument("--pipeline", type=Path, default=BUNDLED / "pipeline")
    parser.add_argument("--lora", type=Path, default=BUNDLED / FILE_NAME)
    parser.add_argument("--count", type=int, default=210, help="drawings: scenes; base: captions")
    parser.add_argument("--seeds", type=int, default=4, help="subject: pictures a background")
    parser.add_argument("--omega", type=float, nargs="+", default=[0.5, 0.75], help="subject: weak ratios")
    parser.add_argument("--scale", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sheet", type=Path, help="save a contact sheet here")
    parser.add_argument("--json", type=Path, help="add the numbers to this file")
    args = parser.parse_args()
    start(args.seed, args.threads)
    begun = time.monotonic()
    scores = measure(args)
    options = {key: getattr(args, key) for key in ("count", "seeds", "scale", "steps", "seed")}
    result = {"options": options, "scores": scores, "seconds": round(time.monotonic() - begun, 1)}
    print(json.dumps(result, indent=2))
    if args.json:
        known = json.loads(args.json.read_text(encoding="utf-8")) if args.json.exists() else {}
        replace_file(args.json, (json.dumps({**known, args.what: result}, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
