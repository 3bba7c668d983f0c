"""Networks whose strength another extension changes within a step, as Regional Prompter does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.hosts.a1111.guided import OMEGA, ON, guided
from tests.hosts.a1111.stand_in import Model, Network, Processing, host, sample

OPTIONS: dict[str, Any] = {"prompts": ["a dog"], "pictures": 1, "batch_cond_uncond": False}


@contextmanager
def changed(model: Model, network: Network, strengths: tuple[float, float]) -> Iterator[None]:
    """Have the network at the first strength in the prompt's call of the U-Net, at the second in the other.

    It is changed when the call has begun, at its first layer.
    """
    calls = [0]

    def change(*_: Any) -> None:
        network.unet_multiplier = strengths[calls[0] % 2]
        calls[0] += 1

    handle = model.model.diffusion_model.conv.register_forward_pre_hook(change)
    try:
        yield
    finally:
        handle.remove()


def brute_force(kind: str, functional: bool, strengths: tuple[float, float], te: float = 0.0) -> list[Tensor]:
    network = Network("dog", te, 0.8, kind=kind)
    with host([network], functional) as model, changed(model, network, strengths):
        return sample(Processing(), model, lambda params: None, **OPTIONS, negative="")


@pytest.mark.parametrize(
    ("kind", "functional"),
    [("LoRA", False), ("LoHa", False), ("full difference", False), ("LoRA", True), ("LoHa", True)],
)
@pytest.mark.parametrize("strengths", [(0.8, 0.5), (0.5, 0.8), (0.8, 0.0), (0.0, -0.4)])
def test_the_weak_branch_follows(strengths: tuple[float, float], kind: str, functional: bool) -> None:
    strong, weak = strengths
    network = Network("dog", 0.0, 0.8, kind=kind)
    with host([network], functional) as model, changed(model, network, strengths):
        ours, p = guided(model, ON, **OPTIONS)
    expected = brute_force(kind, functional, (strong, OMEGA * weak))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    said = [comment for comment in p.comments if "nothing left to weaken" in comment]
    assert len(said) == (weak == 0.0)


def test_a_strength_of_the_weak_branch_s_own_stays_what_it_is() -> None:
    network = Network("dog", 0.0, 0.8)
    with host([network]) as model, changed(model, network, (0.8, 0.5)):
        ours, _ = guided(model, ON, weak="0.3", **OPTIONS)
    expected = brute_force("LoRA", False, (0.8, 0.3), te=0.3)
    for step, own in enumerate(ours):
        torch.testing.assert_close(own[1], expected[step][1], rtol=1e-5, atol=1e-6)
