"""Fast steps in a running host: the same pictures, whatever the networks are, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.live.host import Answer, Host, distance

GUIDED = {"enabled": True, "weak_ratio": 0.4}
FAST = {"pg_fast_steps": True}
KINDS = [name for name in os.environ.get("PG_LIVE_KINDS", "").split(",") if name]
# By which a log of the host, PG_LIVE_LOG, tells that layers were joined.
LOG = os.environ.get("PG_LIVE_LOG", "")


def joined(host: Host, prompt: str, args: Mapping[str, Any], **values: Any) -> Answer:
    return host.txt2img(prompt, args=args, options=FAST | {"pg_console": "Details"}, **values)


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"mode": "AG"},
        {"weak_prompt": "Negative"},
        {"start": 0.3, "end": 0.8},
        {"end": 0.5, "outside": "None"},
        {"weak_ratio": 0.0},
    ],
    ids=lambda args: " ".join(map(str, args.values())) or "default",
)
def test_the_picture_is_the_same(host: Host, prompt: str, args: dict[str, Any], level: float) -> None:
    slow = host.txt2img(prompt, args=GUIDED | args)
    fast = joined(host, prompt, GUIDED | args)
    assert distance(fast.picture, slow.picture) < level
    assert fast.guidance() == slow.guidance() and fast.told == slow.told == []


@pytest.mark.parametrize(
    "values", [{"batch_size": 3}, {"prompt_of": 2}, {"options": {"batch_cond_uncond": False}}]
)
def test_batches_networks_and_calls_of_their_own(
    host: Host, names: list[str], prompt: str, values: dict[str, Any], level: float
) -> None:
    if values.get("prompt_of") and len(names) > 1:
        prompt += f"<lora:{names[1]}:0.7>"
    options = values.get("options", {})
    given = {"batch_size": values["batch_size"]} if "batch_size" in values else {}
    slow = host.txt2img(prompt, args=GUIDED, options=options, **given)
    fast = host.txt2img(prompt, args=GUIDED, options={**options, **FAST}, **given)
    for ours, own in zip(fast.pictures, slow.pictures, strict=True):
        assert distance(ours, own) < level


def test_hires_fix(host: Host, prompt: str, level: float) -> None:
    values = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    slow = host.txt2img(prompt, args=GUIDED, **values)
    fast = joined(host, prompt, GUIDED, **values)
    assert distance(fast.picture, slow.picture) < level


@pytest.mark.parametrize("kind", KINDS or [None])
def test_other_kinds(host: Host, kind: str | None, level: float) -> None:
    if kind is None:
        pytest.skip("name networks of other kinds in PG_LIVE_KINDS")
    prompt = f"a cat<lora:{kind}:0.8>"
    slow = host.txt2img(prompt, args=GUIDED)
    fast = joined(host, prompt, GUIDED)
    assert distance(fast.picture, slow.picture) < level


def test_a_ratio_that_changes_has_none_and_is_the_same_to_the_bit(host: Host, prompt: str) -> None:
    args = GUIDED | {"schedule": "Linear", "weak_ratio_end": 0.9}
    slow = host.txt2img(prompt, args=args)
    fast = joined(host, prompt, args)
    assert np.array_equal(fast.picture, slow.picture)


def test_nothing_is_left_on_the_model(host: Host, prompt: str, plain: Any) -> None:
    before = host.state()
    joined(host, prompt, GUIDED)
    assert host.state() == before
    assert np.array_equal(host.txt2img(prompt).picture, plain)


@pytest.mark.skipif(not LOG, reason="name the host's log in PG_LIVE_LOG")
def test_layers_were_joined(host: Host, prompt: str) -> None:
    with open(LOG, encoding="utf-8", errors="replace") as log:
        log.seek(0, os.SEEK_END)
        joined(host, prompt, GUIDED)
        said = log.read()
    assert " joined (LoRA)" in said, said[-500:]
