"""However a guided generation ends in a host, nothing of it stays; `conftest.py` says how to run it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.live.host import Host, HostError, Pixels

PROBE = "Live probe"
GUIDED = {"enabled": True, "weak_ratio": 0.4, "start": 0.2, "outside": "None"}


@pytest.fixture(autouse=True)
def probe(host: Host) -> None:
    if PROBE.lower() not in host.scripts():
        pytest.skip("copy tests/live/probe into the host's extensions folder and restart the host")


@pytest.mark.parametrize("mode", ["PG", "AG"])
@pytest.mark.parametrize("fault", ["", "error", "memory", "interrupt", "skip", "callback", "ours"])
def test_no_hook_stays_and_weights_are_bit_identical(
    host: Host, prompt: str, plain: Pixels, fault: str, mode: str
) -> None:
    assert np.array_equal(host.txt2img(prompt).picture, plain)
    before = host.state()
    assert before["ours"] == before["modifiers"] == 0
    try:
        answer = host.txt2img(prompt, args=GUIDED | {"mode": mode}, always_on={PROBE: [fault]})
    except HostError:
        assert fault in ("error", "memory")
    else:
        assert fault not in ("error", "memory")
        assert (answer.guidance() == {}) == (fault == "ours")
    assert host.state() == before
    assert np.array_equal(host.txt2img(prompt).picture, plain)


def test_a_fault_of_ours_leaves_a_finished_picture(host: Host, prompt: str, plain: Pixels) -> None:
    answer = host.txt2img(prompt, args={"enabled": True}, always_on={PROBE: ["ours"]})
    assert answer.guidance() == {}
    assert answer.picture.shape == plain.shape
