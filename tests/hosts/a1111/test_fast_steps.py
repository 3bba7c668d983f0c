"""Fast steps in AUTOMATIC1111: its linear layers merge at their call, and multiply."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.hosts.a1111.merging import comes_to_product
from tests.hosts.a1111.guided import OMEGA, ON, dog, guided, hooks, plain, weak
from tests.hosts.a1111.stand_in import Network, Processing, host

FAST = {"fast": True, "details": True}
OPTIONS = {"prompts": ["a dog"] * 2, "pictures": 2}


@pytest.mark.parametrize("kind", ["LoRA", "LoHa", "DoRA", "full difference"])
def test_the_picture_is_the_same(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    networks = [Network("dog", 0.9, 0.8, kind=kind)]
    with host(networks) as model:
        fast, _ = guided(model, ON, chosen=FAST, **OPTIONS)
        assert "1 joined" in capsys.readouterr().out
        cfg = plain(model, **OPTIONS)
        assert hooks(model) == 0
    reference = weak(OMEGA, networks, **OPTIONS)
    for quick, own, other in zip(fast, cfg, reference, strict=True):
        torch.testing.assert_close(quick[2:], other[2:], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(quick[:2], own[:2], rtol=1e-5, atol=1e-6)


def test_strengths_that_change_in_mid_run_are_followed() -> None:
    network = dog()

    def change(params: Any) -> None:
        network.unet_multiplier = 0.8 if params.sampling_step % 2 else 0.4

    outcomes = []
    for chosen in ({}, FAST):
        network.unet_multiplier = 0.8
        with host([network]) as model:
            outcomes.append(steps(model, change, chosen))
    for slow, quick in zip(*outcomes, strict=True):
        torch.testing.assert_close(quick, slow, rtol=1e-5, atol=1e-6)


def steps(model: Any, change: Callable[[Any], None], chosen: dict[str, Any]) -> list[Tensor]:
    """Sample with strengths that another extension changes before a step."""
    p = Processing()
    before = model.model.diffusion_model.register_forward_pre_hook(
        lambda *_: change(types.SimpleNamespace(sampling_step=next(counted)))
    )
    counted = iter(range(100))
    try:
        predictions, _ = guided(model, ON, p, chosen=chosen, **OPTIONS)
    finally:
        before.remove()
    return predictions


def test_with_lora_functional_no_layer_is_a_product(capsys: pytest.CaptureFixture[str]) -> None:
    with host([dog()], functional=True) as model:
        ours, _ = guided(model, ON, **OPTIONS)
        capsys.readouterr()
        fast, _ = guided(model, ON, chosen=FAST, **OPTIONS)
        assert "No fast steps: no layer is known to be a product" in capsys.readouterr().out
    assert all(map(torch.equal, ours, fast))


def test_only_forwards_that_are_known_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    with host([]) as model:
        layer = model.model.diffusion_model.linear
        assert comes_to_product(layer, layer.forward)
        with monkeypatch.context() as patch:
            patch.setitem(vars(layer), "forward", lambda x: x)
            assert not comes_to_product(layer, layer.forward), "another extension's"
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["networks"].originals, "Linear_forward", lambda layer, x: x)
            assert not comes_to_product(layer, layer.forward), "the host's, over another one's"
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "networks")
            assert not comes_to_product(layer, layer.forward), "nobody knows whose"


@pytest.mark.parametrize("schedule", ["Linear", "Cosine"])
def test_a_weak_ratio_that_changes_has_no_fast_steps_and_says_so(
    schedule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with host([dog()]) as model:
        settings = ON | {"schedule": schedule, "weak_ratio_end": 0.9}
        ours, _ = guided(model, settings, **OPTIONS)
        capsys.readouterr()
        fast, _ = guided(model, settings, chosen=FAST, **OPTIONS)
        said = capsys.readouterr().out
    assert "joined" not in said and "No fast steps: the weak ratio changes" in said
    assert all(map(torch.equal, ours, fast))
