"""Every sampler that a running host lists, against brute force; `conftest.py` says how to run it.

Some make two evaluations a step, some choose their steps themselves, and each counts them in its own way.
"""

from __future__ import annotations

import pytest

from tests.live.conftest import URL
from tests.live.host import Host, distance

BRUTE_FORCE = "Brute force weak pass"
OMEGA = 0.4
NEAR = 0.01  # of 255, in full precision
FAR = 0.05  # what the weak branch changes at least


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("sampler", Host(URL).samplers() if URL else ["none, for no host is named"])


@pytest.fixture(autouse=True)
def brute_force(host: Host) -> None:
    if BRUTE_FORCE.lower() not in host.scripts():
        pytest.skip("copy tests/live/brute_force, or brute_force_forge, into the host's extensions folder")


def test_a_sampler_s_pictures_are_those_of_brute_force(host: Host, prompt: str, sampler: str) -> None:
    ours = host.txt2img(prompt, args={"enabled": True, "weak_ratio": OMEGA}, sampler_name=sampler)
    options = {"batch_cond_uncond": False}
    brute = host.txt2img(prompt, always_on={BRUTE_FORCE: [OMEGA]}, options=options, sampler_name=sampler)
    plain = host.txt2img(prompt, negative_prompt="", sampler_name=sampler)
    found, effect = distance(ours.picture, brute.picture), distance(brute.picture, plain.picture)
    print(f"{sampler}: {found:.4f} from brute force, which is {effect:.2f} from CFG")
    assert ours.guidance() == {"PG mode": "PG", "PG weak ratio": str(OMEGA)}
    assert ours.told == []
    assert effect > FAR
    if found >= NEAR:
        again = host.txt2img(prompt, negative_prompt="", sampler_name=sampler, options=options)
        rounding = distance(again.picture, plain.picture)
        print(f"{sampler}: the host alone, with rows in calls of their own, is {rounding:.4f} from itself")
        assert sampler == "DPM adaptive" and found < rounding  # it chooses its steps by what rounding leaves
