"""The host's other features together with the extension; `conftest.py` says how to run it.

Omega 1 has to be byte-identical to the host alone with an empty negative prompt, whatever else is on; lower
ones have to change the picture and to be told in its parameters.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from tests.live.host import Host, Pixels, as_png, distance

SCALE_ONE = {"enabled": True, "weak_ratio": 1}
GUIDED = {"enabled": True, "weak_ratio": 0.4}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.8}
FAR = 0.5


def is_neo(host: Host) -> bool:
    return host.has_option("refiner_use_steps")


def mask() -> str:
    half = np.zeros((128, 128, 3), np.int16)
    half[:, 64:] = 255
    return as_png(half)


def values_of(case: str, picture: Pixels) -> dict[str, Any]:
    """Return what the API is told in a case."""
    start = {"init_images": [as_png(picture)], "denoising_strength": 0.7}
    cases: dict[str, dict[str, Any]] = {
        "img2img": start,
        "inpaint": {**start, "mask": mask(), "inpainting_fill": 1, "mask_blur": 4},
        "inpaint only masked": {**start, "mask": mask(), "inpaint_full_res": True, "mask_blur": 4},
        "soft inpainting": {
            **start,
            "mask": mask(),
            "inpainting_fill": 1,
            "mask_blur": 4,
            "always_on": {"Soft Inpainting": [True, 1, 0.5, 4, 0, 0.5, 2]},
        },
        "prompt editing": {"prompt": "a [cat:red chair:0.5]"},
        "negative guidance minimum sigma": {"options": {"s_min_uncond": 4.0}},
        "skip early CFG": {"options": {"skip_early_cond": 0.3}},
        "token merging": {"options": {"token_merging_ratio": 0.5}},
        "hypertile": {"options": {"hypertile_enable_unet": True}},
        "lora functional": {"options": {"lora_functional": True}},
        "euler a": {"sampler_name": "Euler a"},
        "dpm++ sde": {"sampler_name": "DPM++ SDE"},
        "dpm++ 2m sde": {"sampler_name": "DPM++ 2M SDE"},
        "plms": {"sampler_name": "PLMS"},
        "lcm": {"sampler_name": "LCM"},
        "restart": {"sampler_name": "Restart"},
        "batch size and count": {"batch_size": 2, "n_iter": 2},
        "hires with its own prompt, sampler and scale": {
            **HIRES,
            "hr_prompt": "a dog",
            "hr_sampler_name": "DDIM",
            "hr_cfg": 4,
        },
        "another width": {"width": 192},
    }
    return cases[case]


@pytest.mark.parametrize("case", [
    "img2img", "inpaint", "inpaint only masked", "soft inpainting", "prompt editing",
    "negative guidance minimum sigma", "skip early CFG", "token merging", "hypertile", "lora functional",
    "euler a", "dpm++ sde", "dpm++ 2m sde", "plms", "lcm", "restart", "batch size and count",
    "hires with its own prompt, sampler and scale", "another width",
])  # fmt: skip
def test_omega_1_is_cfg_with_an_empty_negative_prompt(
    host: Host, names: list[str], plain: Pixels, case: str
) -> None:
    values = values_of(case, plain)
    for option in values.get("options", ()):
        if not host.has_option(option):
            pytest.skip(f"the host has no option {option}")
    for title in values.get("always_on", ()):
        if title.lower() not in host.call("/sdapi/v1/scripts")["img2img"]:
            pytest.skip(f"the host has no {title}")
    prompt = f"{values.pop('prompt', 'a cat on a chair')}<lora:{names[0]}:0.9>"
    if "hr_prompt" in values:  # without a network there the second pass would be the host's alone
        values["hr_prompt"] += f"<lora:{names[0]}:0.9>"
    unprompted = host.txt2img(prompt, **values | {"negative_prompt": ""})
    if case == "soft inpainting" and np.array_equal(unprompted.picture, plain):
        pytest.skip("the host's own soft inpainting gives the picture back as it was")
    one = host.txt2img(prompt, args=SCALE_ONE, **values)
    guided = host.txt2img(prompt, args=GUIDED, **values)
    for ours, theirs in zip(one.pictures, unprompted.pictures, strict=True):
        # With a mask Forge draws noise without a seed: it differs from itself by that.
        assert distance(ours, theirs) <= (0.1 if "mask" in values else 0)
    for index in range(len(guided.infotexts)):
        assert distance(guided.pictures[index], unprompted.pictures[index]) > FAR
        assert guided.guidance(index) == {"PG mode": "PG", "PG weak ratio": "0.4"}


def test_another_checkpoint_and_back(host: Host, prompt: str, plain: Pixels) -> None:
    other = os.environ.get("PG_LIVE_CHECKPOINT")
    if not other:
        pytest.skip("name a second checkpoint of the same family in PG_LIVE_CHECKPOINT")
    first = host.call("/sdapi/v1/options")["sd_model_checkpoint"]
    options = {"sd_model_checkpoint": other}
    unprompted = host.txt2img(prompt, negative_prompt="", options=options)
    guided = host.txt2img(prompt, args=GUIDED, options=options)
    one = host.txt2img(prompt, args=SCALE_ONE, options=options)
    assert np.array_equal(one.picture, unprompted.picture)
    assert distance(guided.picture, unprompted.picture) > FAR
    assert np.array_equal(host.txt2img(prompt, options={"sd_model_checkpoint": first}).picture, plain)


@pytest.mark.parametrize("settings", [{}, {"schedule": "Linear", "weak_ratio_end": 1.0}, {"start": 0.6}])
def test_a_refiner_is_guided_too(host: Host, prompt: str, plain: Pixels, settings: dict[str, Any]) -> None:
    other = os.environ.get("PG_LIVE_CHECKPOINT")
    if not other:
        pytest.skip("name a second checkpoint of the same family in PG_LIVE_CHECKPOINT")
    refiner = {"refiner_checkpoint": other, "refiner_switch_at": 0.5}
    alone = host.txt2img(prompt, **refiner)
    unprompted = host.txt2img(prompt, negative_prompt="", **refiner)
    one = host.txt2img(prompt, args=SCALE_ONE, **refiner)
    guided = host.txt2img(prompt, args=GUIDED | settings, **refiner)
    assert "Refiner" in guided.parameters()
    if any("drops the prompt's networks" in line for line in one.told):  # AUTOMATIC1111's refiner has none
        assert len(one.told) == len(guided.told) == 1
        one = host.txt2img(prompt, args=SCALE_ONE, negative_prompt="", **refiner)
    # Forge Neo has its refiner read what the base model's text encoder made of the prompts.
    assert is_neo(host) or np.array_equal(one.picture, unprompted.picture)
    # The interval that starts behind the switch shows that steps are counted across it. AUTOMATIC1111 has no
    # network in a refiner's model: then the host is left alone from there on.
    if any("drops the prompt's networks" in line for line in guided.told) and "start" in settings:
        assert np.array_equal(guided.picture, alone.picture) and guided.guidance() == {}
    else:
        assert distance(guided.picture, alone.picture) > 0
        assert guided.guidance()["PG weak ratio"] == "0.4"
    assert np.array_equal(host.txt2img(prompt).picture, plain)


def test_what_the_host_leaves_out_everywhere_is_not_claimed(host: Host, prompt: str) -> None:
    if is_neo(host):
        pytest.skip("Forge Neo always guides the first step")
    never = host.txt2img(prompt, args=GUIDED, options={"skip_early_cond": 1.0})
    assert never.guidance() == {}


def test_cfg_scale_1_is_not_claimed(host: Host, prompt: str) -> None:
    one = host.txt2img(prompt, args=GUIDED, cfg_scale=1)
    assert one.guidance() == {}
    assert any("CFG scale 1" in told for told in one.told)
    assert np.array_equal(one.picture, host.txt2img(prompt, cfg_scale=1).picture)
