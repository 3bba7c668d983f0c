"""A full fine-tune in a running host, through refiner, hires fix, a change of checkpoints and faults.

`test_base_checkpoint_live.py` says how to run it; PG_LIVE_TUNING is not needed. Whatever a generation with a
base checkpoint was, every weight is bit-identical afterwards, and the next plain picture the same bytes.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from tests.live.host import Answer, Host, HostError, distance

PROBE = "Live probe"
FAR = 0.05
BASE, TUNED = (os.environ.get(f"PG_LIVE_{name}", "") for name in ("BASE", "TUNED"))
pytestmark = pytest.mark.skipif(not (BASE and TUNED), reason="set PG_LIVE_BASE and _TUNED")
GUIDED = {"enabled": True, "weak_ratio": 0.4, "base_checkpoint": BASE}
RANK = "pg_weak_memory"

CASES: dict[str, dict[str, Any]] = {
    "refiner": {"refiner_checkpoint": BASE, "refiner_switch_at": 0.7},
    "hires": {
        "enable_hr": True,
        "hr_scale": 1.5,
        "hr_upscaler": "Latent",
        "hr_second_pass_steps": 4,
        "denoising_strength": 0.6,
    },
    "a batch of two, twice": {"batch_size": 2, "n_iter": 2},
    "a rank of 8": {"options": {RANK: 8}},
}


def picture(host: Host, args: dict[str, Any] | None = None, checkpoint: str = TUNED, **more: Any) -> Answer:
    options = {RANK: 0, **more.pop("options", {}), "sd_model_checkpoint": checkpoint}
    return host.txt2img("a cat on a chair", args=args, options=options, **{"steps": 4, **more})


@pytest.fixture(autouse=True)
def probe(host: Host) -> None:
    if PROBE.lower() not in host.scripts():
        pytest.skip("copy tests/live/probe into the host's extensions folder and restart the host")


@pytest.mark.parametrize("fault", ["", "error", "interrupt"])
@pytest.mark.parametrize("case", CASES)
def test_weights_and_the_next_picture_are_the_same_bits(host: Host, case: str, fault: str) -> None:
    plain = picture(host).picture
    before = host.state()
    try:
        answer = picture(host, GUIDED, always_on={PROBE: [fault]}, **CASES[case])
    except HostError:
        assert fault == "error"
    else:
        assert fault != "error"
        print(f"{case}, {fault or 'no fault'}: {answer.guidance()}, said: {answer.told}")
        assert answer.guidance()["PG base checkpoint"] == BASE
    assert np.array_equal(picture(host).picture, plain)
    assert host.state() == before and before["ours"] == 0


def test_a_refiner_is_not_weakened_towards_the_base_and_that_is_said(host: Host) -> None:
    ours = picture(host, GUIDED, **CASES["refiner"])
    assert any("a refiner is not weakened towards the base checkpoint" in line for line in ours.told)
    one = picture(host, GUIDED | {"weak_ratio": 1}, **CASES["refiner"]).picture
    assert distance(ours.picture, one) > FAR, "the first model is"


def test_a_change_of_checkpoints_and_back(host: Host) -> None:
    """The weak weights end with the model that they are of, and are made again to the last bit."""
    other = picture(host, checkpoint=BASE).picture
    ours = picture(host, GUIDED).picture
    assert np.array_equal(picture(host, GUIDED).picture, ours), "kept weak weights are others"
    assert np.array_equal(picture(host, checkpoint=BASE).picture, other)
    assert np.array_equal(picture(host, GUIDED).picture, ours)


def test_a_low_rank_is_near_and_goes_when_it_is_switched_off(host: Host) -> None:
    exact = picture(host, GUIDED)
    low = picture(host, GUIDED, options={RANK: 8})
    changes = distance(exact.picture, picture(host, GUIDED | {"weak_ratio": 1}).picture)
    lost = distance(low.picture, exact.picture)
    print(f"rank 8 is {lost:.3f} from exact, where the weak branch changes {changes:.3f}")
    assert low.parameters()["PG weak memory"] == "8"
    assert 0 < lost < changes
    again = picture(host, GUIDED)
    assert np.array_equal(again.picture, exact.picture)
    assert "PG weak memory" not in again.parameters()
