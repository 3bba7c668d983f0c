"""`python -m lib_pg demo`: CFG, AG and PG side by side on the bundled model, and what a step costs."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from lib_pg.cli.errors import UsageError
from lib_pg.cli.output import output_folder, replace_file
from lib_pg.cli.paths import BUNDLED, BUNDLED_LORA, BUNDLED_PIPELINE
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.cli.samplers import MODELS_OWN, scheduler_for
from lib_pg.cli.sheet import Block, draw_sheet
from lib_pg.hosts.diffusers import guided, installed, load_network
from lib_pg.networks import Network
from lib_pg.settings import Settings

STEPS = 25
SCALE = 3.0
WEAK_RATIO = 0.5
PICTURES = 3
STRIP = (0.0, 0.25, 0.5, 0.75, 1.0)
PROMPTS = (
    "a big sks star at the beach on the left",
    "a big sks star in the snow at the top",
    "a big sks star in the meadow at the bottom",
    "a small sks star in the desert at the top",
    "a small sks star at the sea on the right",
    "a small sks star at night on the left",
)
ARMS = {
    "CFG": Settings(enabled=True, mode="CFG"),
    "AG": Settings(enabled=True, mode="AG", weak_ratio=WEAK_RATIO),
    "PG": Settings(enabled=True, mode="PG", weak_ratio=WEAK_RATIO),
}


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    torch.set_grad_enabled(False)
    if options.out.is_dir():
        raise UsageError(f"--out {str(options.out)!r} is a folder; give the name of a PNG in it")
    with output_folder(options.out.parent, "--out"):
        return _compare(options)


def _compare(options: argparse.Namespace) -> int:
    pipeline = load_pipeline(BUNDLED_PIPELINE, None, "cpu", "float32")
    pipeline.scheduler = scheduler_for("DPM++ 2M", MODELS_OWN, STEPS, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    network = load_network(pipeline, BUNDLED_LORA)
    bench = _Bench(pipeline, network, options.seed)
    with installed([network]), tqdm(total=len(PROMPTS) * len(ARMS) + len(STRIP) + 1, desc="pictures") as bar:
        bench.pictures(PROMPTS[0], ARMS["CFG"])  # the first call of a process is slow and is not counted
        bench.seconds.clear()
        bar.update()
        rows = []
        for prompt in PROMPTS:
            rows.append(
                (prompt, [_advance(bar, bench.pictures(prompt, arm, name)) for name, arm in ARMS.items()])
            )
        strip = [_advance(bar, bench.pictures(PROMPTS[0], _at(ratio))) for ratio in STRIP]
    sheet = _sheet(rows, strip, options.seed)
    stream = io.BytesIO()
    sheet.save(stream, format="PNG")
    replace_file(options.out, stream.getvalue())
    print(_table(bench.seconds))
    print(f"comparison written to {options.out}")
    return 0


class _Bench:
    """Makes pictures with the personalised pipeline and keeps how long each arm's steps took."""

    def __init__(self, pipeline: Any, network: Network, seed: int) -> None:
        self._pipeline = pipeline
        self._network = network
        self._seed = seed
        self.seconds: dict[str, list[float]] = {}

    def pictures(self, prompt: str, settings: Settings, name: str = "") -> list[Image.Image]:
        generators = [torch.Generator().manual_seed(self._seed + index) for index in range(PICTURES)]
        ticks: list[float] = []

        def tick(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            ticks.append(time.perf_counter())
            return tensors

        with guided(self._pipeline, [self._network], settings):
            images = self._pipeline(
                prompt=prompt,
                num_images_per_prompt=PICTURES,
                num_inference_steps=STEPS,
                guidance_scale=SCALE,
                generator=generators,
                callback_on_step_end=tick,
            ).images
        self.seconds.setdefault(name, []).extend(after - before for before, after in pairwise(ticks))
        return list(images)


def _at(ratio: float) -> Settings:
    return replace(ARMS["PG"], weak_ratio=ratio)


def _advance(bar: Any, pictures: list[Image.Image]) -> list[Image.Image]:
    bar.update()
    return pictures


def _sheet(rows: Sequence[Any], strip: Sequence[Sequence[Image.Image]], seed: int) -> Image.Image:
    subject = Image.open(BUNDLED / "subject.png")
    learned = [
        subject.crop((x, 0, x + subject.height, subject.height))
        for x in range(0, subject.width, subject.height)
    ]
    return draw_sheet(
        f"Personalization guidance on the bundled tiny model: CFG scale {SCALE:g}, {STEPS} steps",
        [
            Block("The subject: a sks star, learned from these four pictures", [""], [("", [learned])]),
            Block(
                f"Asked for where it was never seen; the same {PICTURES} seeds in every cell, "
                f"weak ratio {WEAK_RATIO:g} in AG and PG",
                list(ARMS),
                rows,
            ),
            Block(
                f"PG over the weak ratio: 0 is the base model, 1 is CFG with a null prompt; {PROMPTS[0]}",
                [f"{ratio:g}" for ratio in STRIP],
                [
                    (f"seed {seed + index}", [[pictures[index]] for pictures in strip])
                    for index in range(PICTURES)
                ],
            ),
        ],
        zoom=2,
    )


def _table(seconds: dict[str, list[float]]) -> str:
    """Return median step times and their ratio to CFG."""
    cfg = median(seconds["CFG"])
    lines = [f"{'':6}{'ms a step':>10}{'to CFG':>9}   ({PICTURES} pictures of 64 x 64 in a batch)"]
    for name in ARMS:
        step = median(seconds[name])
        lines.append(f"{name:6}{step * 1000:10.1f}{step / cfg:8.2f}x")
    lines.append(
        "So small a U-Net spends its time on overhead; benchmarks/speed.py measures a real one's size."
    )
    return "\n".join(lines)
