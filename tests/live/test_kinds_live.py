"""Networks of every kind in a running host, against the host's own merging; `conftest.py` says how to run it.

    PG_LIVE_KINDS=my_loha,my_lokr,my_dora PG_LIVE_URL=... python -m pytest tests/live/test_kinds_live.py

The names are those of networks that fit the checkpoint, whatever their kinds, each tried alone: several
together are no lowered multipliers where one depends on the weight that those before it have left.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.live.host import Host, HostError, Pixels, distance

BRUTE_FORCE = "Brute force weak pass"
PROBE = "Live probe"
OMEGA = 0.4
GUIDED = {"enabled": True, "weak_ratio": OMEGA}
NEAR = 0.01  # of 255, in full precision
FAR = 0.05  # what a network changes at least

KINDS = [name.strip() for name in os.environ.get("PG_LIVE_KINDS", "").split(",") if name.strip()]
kinds = pytest.mark.parametrize(
    "kind", KINDS or [pytest.param("", marks=pytest.mark.skip(reason="set PG_LIVE_KINDS to networks' names"))]
)


def prompt_of(*networks: str) -> str:
    return "a cat on a chair" + "".join(f"<lora:{network}>" for network in networks)


@pytest.fixture
def brute_force(host: Host) -> None:
    if BRUTE_FORCE.lower() not in host.scripts():
        pytest.skip("copy tests/live/brute_force, or brute_force_forge, into the host's extensions folder")


def by_brute_force(host: Host, prompt: str) -> Pixels:
    options = {"batch_cond_uncond": False}
    return host.txt2img(prompt, always_on={BRUTE_FORCE: [OMEGA]}, options=options).picture


@kinds
def test_a_kind_is_what_the_hosts_own_merging_makes_of_it(host: Host, brute_force: None, kind: str) -> None:
    prompt = prompt_of(f"{kind}:1")
    ours = host.txt2img(prompt, args=GUIDED)
    found = distance(ours.picture, by_brute_force(host, prompt))
    null = host.txt2img(prompt, args={"enabled": True, "weak_ratio": 1}).picture
    effect = distance(ours.picture, null)
    print(
        f"{kind}: {found:.4f} from brute force, where the weak branch changes {effect:.2f}; said: {ours.told}"
    )
    assert ours.guidance() == {"PG mode": "PG", "PG weak ratio": "0.4"}
    assert found < NEAR
    assert effect > FAR


@kinds
def test_omega_1_is_cfg_and_off_is_nothing_to_the_last_bit(host: Host, kind: str) -> None:
    prompt = prompt_of(f"{kind}:1")
    plain = host.txt2img(prompt).picture
    cfg = host.txt2img(prompt, negative_prompt="").picture
    assert np.array_equal(host.txt2img(prompt, args={"enabled": True, "weak_ratio": 1}).picture, cfg)
    assert np.array_equal(host.txt2img(prompt, args={"enabled": False}).picture, plain)


@kinds
@pytest.mark.parametrize("fault", ["", "error", "interrupt"])
def test_every_ending_leaves_the_hosts_weights(host: Host, kind: str, fault: str) -> None:
    if PROBE.lower() not in host.scripts():
        pytest.skip("copy tests/live/probe into the host's extensions folder and restart the host")
    prompt = prompt_of(f"{kind}:1")
    plain = host.txt2img(prompt).picture
    before = host.state()
    try:
        host.txt2img(prompt, args=GUIDED, always_on={PROBE: [fault]})
    except HostError:
        assert fault == "error"
    assert host.state() == before and before["ours"] == 0
    assert np.array_equal(host.txt2img(prompt).picture, plain)


@kinds
def test_a_strength_of_the_weak_branch_s_own(host: Host, kind: str) -> None:
    """At strength 1 `weak=0.4` is the same as a weak ratio of 0.4."""
    own = host.txt2img(prompt_of(f"{kind}:1:weak=0.4"), args=GUIDED | {"weak_ratio": 0.9})
    ratio = host.txt2img(prompt_of(f"{kind}:1:pg=0.4"), args=GUIDED | {"weak_ratio": 0.9})
    assert distance(own.picture, ratio.picture) < NEAR


@kinds
def test_a_network_that_only_the_weak_branch_has(host: Host, kind: str) -> None:
    """At CFG scale 0 a picture is the weak branch's alone: there it is the network at that strength."""
    base = host.txt2img(prompt_of(f"{kind}:0"), args=GUIDED | {"weak_ratio": 0.4}).picture
    weak = host.txt2img(prompt_of(f"{kind}:0:weak=1"), args=GUIDED)
    assert weak.guidance()["PG mode"] == "PG"
    assert distance(weak.picture, base) > FAR
