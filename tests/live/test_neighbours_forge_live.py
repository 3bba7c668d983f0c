"""Forge's own extensions beside ours; `conftest.py` says how to run it.

Each alone, beside ours, and switched off again. With them on, omega 1 is still what the host makes with an
empty negative prompt, and lower ones are what brute force makes.

FreeU knows levels as wide as those of real models alone: PG_LIVE_WIDE=CHECKPOINT,NETWORK names a checkpoint
with a level 320 channels wide, and a network for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.live.host import Host, distance
from tests.live.neighbours import (
    CAT,
    GUIDED,
    Maker,
    Neighbour,
    check_both_at_work,
    drawn,
    place_of_ours,
    reference,
    together,
)

_TWO = {"batch_size": 2}
# What is left to change from a third of the steps on.
LEAST = {"dynamic thresholding": 0.05}


def modifier(**on: Any) -> list[Any]:
    """Return the arguments of Latent Modifier in their order."""
    values = {
        "sharpness": [0.0, "anisotropic"],
        "tonemap": [0.0, "reinhard", 100.0],
        "contrast": [0.0],
        "drift": ["subtract", 0.0],
        "rescale": [0.0],
        "noise": ["gaussian", "add", 0.0, 100],
        "norm": [127, 0.0],
        "spectral": ["hard_clamp", 5.0, 0.0],
        "uncond": ["None"],
        "dynamic": ["None"],
    }
    return [True, *(value for part in (values | on).values() for value in part)]


NEIGHBOURS: dict[str, Neighbour] = {
    "perturbed attention": Neighbour("PerturbedAttentionGuidance Integrated", [True, 30.0, 0.0, 0.0, 1.0]),
    "self-attention guidance": Neighbour(
        "SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)", [True, 0.5, 2.0, 1.0]
    ),
    "FreeU": Neighbour(
        "FreeU Integrated (SD 1.x, SD 2.x, SDXL)", [True, 1.3, 1.4, 0.9, 0.2, 0.0, 1.0], wide=True
    ),
    "dynamic thresholding": Neighbour("DynamicThresholding (CFG-Fix) Integrated", [True, 3.0, 0.9]),
    "Kohya HRFix": Neighbour("Kohya HRFix Integrated", [True, 3, 2.0, 0.0, 0.35]),
    "StyleAlign, two pictures": Neighbour("StyleAlign Integrated", [True, 1.0], values=_TWO),
    "StyleAlign at half, two pictures": Neighbour("StyleAlign Integrated", [True, 0.5], values=_TWO),
    "Latent Modifier, CFG rescale": Neighbour("LatentModifier Integrated", modifier(rescale=[0.7])),
    "Latent Modifier, tone map": Neighbour(
        "LatentModifier Integrated", modifier(tonemap=[1.0, "cfg-mimic", 100.0])
    ),
    "Latent Modifier, CADS noise": Neighbour(
        "LatentModifier Integrated", modifier(noise=["gaussian", "cads", 10.0, 100])
    ),
    "MultiDiffusion": Neighbour("MultiDiffusion Integrated", [True, "MultiDiffusion", 64, 64, 32, 4]),
    "Mixture of Diffusers": Neighbour(
        "MultiDiffusion Integrated", [True, "Mixture of Diffusers", 64, 64, 32, 3]
    ),
    "ControlNet, reference": Neighbour("ControlNet", reference("reference_only")),
    "ControlNet, AdaIN": Neighbour("ControlNet", reference("reference_adain")),
    "ControlNet, AdaIN and attention": Neighbour("ControlNet", reference("reference_adain+attn")),
    "token merging": Neighbour("", None, on={"token_merging_ratio": 0.5}),
}
# Dynamic thresholding and Latent Modifier have the host's combine step to themselves, StyleAlign and the
# reference every attention: of two such the last one counts. These two do not know MultiDiffusion's rows.
TOGETHER = (
    "perturbed attention",
    "self-attention guidance",
    "dynamic thresholding",
    "Kohya HRFix",
    "ControlNet, AdaIN and attention",
    "token merging",
)
OTHERS = ("perturbed attention", "StyleAlign, two pictures", "Latent Modifier, CFG rescale", "Kohya HRFix")


@pytest.fixture(scope="module")
def make(host: Host, names: list[str]) -> Maker:
    return Maker(host, names[0])


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_both_are_at_work_and_nothing_stays(host: Host, level: float, make: Maker, name: str) -> None:
    check_both_at_work(host, level, make, NEIGHBOURS[name], name)


@pytest.mark.parametrize("names_of", [TOGETHER, OTHERS], ids=["all", "others"])
def test_all_together(host: Host, level: float, make: Maker, names_of: tuple[str, ...]) -> None:
    """Run it with ours before and behind them in the host's order of extensions."""
    neighbour = together(NEIGHBOURS, names_of, CAT)
    check_both_at_work(host, level, make, neighbour, f"{', '.join(names_of)}; {place_of_ours(host)}")


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_steps_without_weak_rows_leave_both_at_work(make: Maker, name: str) -> None:
    """From a third of the steps on, and no uncond before them."""
    neighbour = NEIGHBOURS[name]
    make.check_installed(neighbour)
    settings = {**GUIDED, "start": 0.3, "outside": "None"}
    both = drawn(make(neighbour, on=True, ours=settings), neighbour)
    assert distance(both, make.without(neighbour, ours=settings)) > LEAST.get(name, neighbour.least)
    assert np.array_equal(drawn(make(neighbour, on=False), neighbour), make.without(neighbour))
