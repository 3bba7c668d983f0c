"""A full fine-tune in a running host: the same pictures as its base with the fine-tune as networks.

    PG_LIVE_BASE=base.safetensors PG_LIVE_TUNED=tuned.safetensors PG_LIVE_TUNING=one,two PG_LIVE_URL=... \
        python -m pytest tests/live/test_base_checkpoint_live.py

PG_LIVE_TUNED is a checkpoint that was made of PG_LIVE_BASE by adding the networks of PG_LIVE_TUNING, all of
them linear in their strength (LoRA, full differences, norms), to the weights in its file. Networks are held
against the host's own merging in test_kinds_live.py.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from tests.live.host import Answer, Host, HostError, distance

PROBE = "Live probe"
NEAR = 0.01  # of 255, in full precision
FAR = 0.05

BASE, TUNED = (os.environ.get(f"PG_LIVE_{name}", "") for name in ("BASE", "TUNED"))
TUNING = [name for name in os.environ.get("PG_LIVE_TUNING", "").split(",") if name]
pytestmark = pytest.mark.skipif(
    not (BASE and TUNED and TUNING), reason="set PG_LIVE_BASE, _TUNED and _TUNING"
)
PROMPT = "a cat on a chair"


def picture(host: Host, checkpoint: str, tags: str = "", omega: float | None = None, **more: Any) -> Answer:
    settings: dict[str, Any] = {"enabled": omega is not None, "weak_ratio": 0.5 if omega is None else omega}
    if checkpoint == TUNED and omega is not None:
        settings["base_checkpoint"] = BASE
    options = {"sd_model_checkpoint": checkpoint}
    return host.txt2img(PROMPT + tags, args=settings | more.pop("args", {}), options=options, **more)


@pytest.mark.parametrize("omega", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_fine_tune_is_its_base_with_the_difference_as_networks(
    host: Host, omega: float, batch: int
) -> None:
    tags = "".join(f"<lora:{name}:1>" for name in TUNING)
    as_networks = picture(host, BASE, tags, omega, batch_size=batch)
    ours = picture(host, TUNED, "", omega, batch_size=batch)
    plain = picture(host, TUNED, "", 1.0, batch_size=batch)
    print(
        f"omega {omega}: {distance(ours.picture, as_networks.picture):.4f} from networks, "
        f"where the weak branch changes {distance(ours.picture, plain.picture):.2f}; said: {ours.told}"
    )
    assert ours.guidance()["PG base checkpoint"] == BASE
    assert ours.told == []
    for one, other in zip(ours.pictures, as_networks.pictures, strict=True):
        assert distance(one, other) < NEAR
    assert distance(ours.picture, plain.picture) > FAR


def test_omega_1_is_cfg_and_off_is_nothing_to_the_last_bit(host: Host) -> None:
    cfg = picture(host, TUNED, negative_prompt="").picture
    plain = picture(host, TUNED).picture
    assert np.array_equal(picture(host, TUNED, omega=1.0).picture, cfg)
    assert np.array_equal(picture(host, TUNED).picture, plain)


@pytest.mark.parametrize("fault", ["", "error", "interrupt"])
def test_every_ending_leaves_the_hosts_weights(host: Host, fault: str) -> None:
    if PROBE.lower() not in host.scripts():
        pytest.skip("copy tests/live/probe into the host's extensions folder and restart the host")
    plain = picture(host, TUNED).picture
    before = host.state()
    try:
        picture(host, TUNED, omega=0.4, always_on={PROBE: [fault]})
    except HostError:
        assert fault == "error"
    assert host.state() == before and before["ours"] == 0
    assert np.array_equal(picture(host, TUNED).picture, plain)


def test_hires_and_a_second_omega(host: Host) -> None:
    """The second pass has its own omega; weak weights follow it."""
    more = {"enable_hr": True, "hr_scale": 1.5, "hr_second_pass_steps": 4, "denoising_strength": 0.6}
    more |= {"hr_upscaler": "Latent"}
    tags = "".join(f"<lora:{name}:1>" for name in TUNING)
    own = {"hires": "Own", "hires_weak_ratio": 0.9}
    ours = picture(host, TUNED, "", 0.3, args=own, **more)
    assert distance(ours.picture, picture(host, BASE, tags, 0.3, args=own, **more).picture) < NEAR
    assert distance(ours.picture, picture(host, TUNED, "", 0.3, **more).picture) > FAR


@pytest.mark.parametrize("what", ["hires", "refiner", "another checkpoint", "off"])
def test_whatever_comes_between_leaves_the_hosts_weights(host: Host, what: str) -> None:
    if PROBE.lower() not in host.scripts():
        pytest.skip("copy tests/live/probe into the host's extensions folder and restart the host")
    plain = picture(host, TUNED).picture
    before = host.state()
    if what == "hires":
        more = {"enable_hr": True, "hr_scale": 1.5, "hr_second_pass_steps": 4, "denoising_strength": 0.6}
        answer = picture(host, TUNED, omega=0.4, hr_upscaler="Latent", **more)
    elif what == "refiner":
        answer = picture(host, TUNED, omega=0.4, refiner_checkpoint=BASE, refiner_switch_at=0.5)
        assert any("refiner is not weakened" in line for line in answer.told)
    else:
        answer = picture(host, TUNED, omega=0.4)
        picture(host, BASE if what == "another checkpoint" else TUNED)
    assert answer.guidance()["PG base checkpoint"] == BASE
    assert np.array_equal(picture(host, TUNED).picture, plain)
    assert host.state() == before and before["ours"] == 0


def test_what_is_none_of_the_hosts_is_said(host: Host) -> None:
    answer = picture(host, TUNED, omega=0.4, args={"base_checkpoint": "../../etc/passwd"})
    assert any("is none of the host's" in line for line in answer.told)
    assert "PG base checkpoint" not in answer.guidance()
    same = picture(host, TUNED, omega=0.4, args={"base_checkpoint": TUNED})
    assert any("has the very weights of" in line for line in same.told)
