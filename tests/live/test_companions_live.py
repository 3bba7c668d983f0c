"""Forge's own guidance beside ours; `conftest.py` says how to run it.

With the others on, omega 1 is still what the host makes with an empty negative prompt, and lower ones what
brute force makes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.live.host import Host, Pixels, as_png, distance

BRUTE_FORCE = "Brute force weak pass"
GUIDED = {"enabled": True, "weak_ratio": 0.4}
FAR = 0.5
# From a third of the steps on there is little left for it to cut.
LEAST = {"dynamic thresholding": 0.05}

COMPANIONS: dict[str, tuple[str, list[Any]]] = {
    "perturbed attention": ("PerturbedAttentionGuidance Integrated", [True, 30.0, 0.0, 0.0, 1.0]),
    "self attention": ("SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)", [True, 0.5, 2.0, 1.0]),
    "FreeU": ("FreeU Integrated (SD 1.x, SD 2.x, SDXL)", [True, 1.3, 1.4, 0.9, 0.2, 0.0, 1.0]),
    "dynamic thresholding": ("DynamicThresholding (CFG-Fix) Integrated", [True, 3.0, 0.9]),
    "kohya hires": ("Kohya HRFix Integrated", [True, 3, 2.0, 0.0, 0.35]),
    "ControlNet reference": ("ControlNet", []),
}


def arguments(name: str, picture: Pixels) -> dict[str, list[Any]]:
    title, given = COMPANIONS[name]
    if title == "ControlNet":
        # Weight 2 reaches layers of any width, so those of a small model too.
        unit = {"enabled": True, "module": "reference_only", "model": "None", "weight": 2.0}
        given = [{**unit, "image": as_png(picture)}]
    return {title: given}


@pytest.mark.parametrize(
    "settings", [{}, {"start": 0.3, "outside": "None"}], ids=["always", "from a third on"]
)
@pytest.mark.parametrize("name", COMPANIONS)
def test_both_are_at_work(
    host: Host, level: float, prompt: str, plain: Pixels, name: str, settings: dict[str, Any]
) -> None:
    title, _ = COMPANIONS[name]
    if title.lower() not in host.scripts():
        pytest.skip(f"the host has no {title}")
    beside = arguments(name, plain)
    alone = host.txt2img(prompt, negative_prompt="", always_on=beside)
    one = host.txt2img(prompt, args=GUIDED | {"weak_ratio": 1}, always_on=beside)
    ours = host.txt2img(prompt, args=GUIDED | settings, always_on=beside)
    without = host.txt2img(prompt, args=GUIDED | settings)
    assert np.array_equal(one.picture, alone.picture)
    assert distance(ours.picture, alone.picture) > FAR
    assert distance(ours.picture, without.picture) > LEAST.get(name, FAR), "the companion did nothing"
    assert ours.guidance()["PG weak ratio"] == "0.4"
    # The cut by brute force does not know the second unconditional call of self-attention guidance.
    if not settings and name != "self attention" and BRUTE_FORCE.lower() in host.scripts():
        brute = host.txt2img(prompt, always_on=beside | {BRUTE_FORCE: [0.4]})
        assert distance(ours.picture, brute.picture) < level
    assert np.array_equal(host.txt2img(prompt).picture, plain)
