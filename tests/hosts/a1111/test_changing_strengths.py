"""Networks whose strength another extension changes within a step, as Regional Prompter does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib_pg.hosts.webui.null_prompts import NullPrompts
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


@contextmanager
def changed_text(model: Model, network: Network, strength: float) -> Iterator[None]:
    """Have the network at a strength in the text encoder from its first layer's call on."""
    for key in [key for key in network.modules if key.startswith("transformer_attn")]:
        del network.modules[key]

    def change(*_: Any) -> None:
        network.te_multiplier = strength

    handle = model.text_layer.register_forward_pre_hook(change)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("strength", [0.5, 0.0, -0.4])
def test_the_null_prompt_has_its_share_of_what_its_call_has(strength: float) -> None:
    network = Network("dog", 0.9, 0.8)
    with host([network]) as model, changed_text(model, network, strength):
        ours, _ = guided(model, ON, **OPTIONS)
    steady = Network("dog", strength, 0.8)
    with host([steady]) as model, changed_text(model, steady, strength):
        expected, _ = guided(model, ON, **OPTIONS)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_a_kept_null_prompt_is_not_used_where_strengths_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    network, kept = Network("dog", 0.9, 0.8), NullPrompts()
    with host([network]) as model:
        lora: Any = sys.modules["networks"]
        guided(model, ON, null_prompts=kept, **OPTIONS)
        network.te_multiplier = 0.9
        with changed_text(model, network, 0.5), monkeypatch.context() as patch:
            patch.setattr(nn.Linear, "forward", lambda self, x: lora.network_Linear_forward(self, x))
            ours, _ = guided(model, ON, null_prompts=kept, **OPTIONS)
        network.te_multiplier = 0.5
        expected, _ = guided(model, ON, **OPTIONS)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
