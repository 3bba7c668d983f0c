"""Fast steps in the Forge family: which of the hosts' layers come to a product, and the same pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lib_pg.hosts.forge.merging import comes_to_product
from tests.hosts.forge.network_files import Network, Used, host, network_file
from tests.hosts.forge.sampling import assert_close, guided, plain
from tests.hosts.forge.stand_in import WIDTH, Linear

ON = {"enabled": True, "weak_ratio": 0.3}
FAST = {"fast": True, "details": True}
NOT_PRODUCTS: dict[str, dict[str, Any]] = {
    "casts": {"parameters_manual_cast": True},
    "merges at the call": {"weight_function": [lambda weight: weight]},
    "merges a LoRA at the call": {"forge_online_loras": {"weight": []}},
    "scales": {"scale_weight": torch.ones(1)},
    "has another extension's forward": {"forward": lambda x: x},
}


def used() -> Used:
    return [(Network("dog", 0.9, 0.8), network_file(10))]


@pytest.mark.parametrize("uncond_first", [True, False], ids=["uncond first", "cond first"])
@pytest.mark.parametrize("room", [9, 1], ids=["one call", "a call a chunk"])
def test_the_picture_is_the_same(uncond_first: bool, room: int, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"uncond_first": uncond_first, "room": room}
    with host(used()) as engine:
        ours, _ = guided(engine, ON, **options)
        capsys.readouterr()
        fast, _ = guided(engine, ON, chosen=FAST, **options)
        assert "2 joined (LoRA)" in capsys.readouterr().out
        cfg = plain(engine, **options)
        assert not any("forward" in vars(module) for module in engine.unet.modules())
    for our, quick, own in zip(ours, fast, cfg, strict=True):
        assert our.uncond is not None and quick.uncond is not None and own.uncond is not None
        assert_close(quick.uncond, our.uncond)
        assert_close(quick.cond[0], own.cond[0])
        assert (quick.uncond - own.uncond).abs().max() > 1e-3


@pytest.mark.parametrize("changes", NOT_PRODUCTS.values(), ids=NOT_PRODUCTS)
def test_a_layer_that_does_more_than_a_product_is_none(changes: dict[str, Any]) -> None:
    layer = Linear(WIDTH, WIDTH)
    assert comes_to_product(layer, layer.forward)
    for name, value in changes.items():
        object.__setattr__(layer, name, value)
    assert not comes_to_product(layer, layer.forward)


def test_torch_s_own_is_one_and_an_unknown_host_s_is_none() -> None:
    class Other(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    known, unknown = nn.Linear(3, 3), Other(3, 3)
    assert comes_to_product(known, known.forward)
    assert not comes_to_product(unknown, unknown.forward)


@pytest.mark.parametrize("changes", list(NOT_PRODUCTS.values())[:3], ids=list(NOT_PRODUCTS)[:3])
def test_a_host_that_loads_its_model_after_the_pass_has_begun_is_asked_again(changes: dict[str, Any]) -> None:
    with host(used()) as engine:
        layers = [layer for layer in engine.unet.modules() if isinstance(layer, Linear)]
        assert layers

        def load(unet: nn.Module, args: Any) -> None:
            for layer in layers:
                for name, value in changes.items():
                    setattr(layer, name, value)

        ours, _ = guided(engine, ON)
        engine.unet.register_forward_pre_hook(load)
        fast, _ = guided(engine, ON, chosen=FAST)
    for our, quick in zip(ours, fast, strict=True):
        assert our.uncond is not None and quick.uncond is not None
        assert torch.equal(our.uncond, quick.uncond), "the other engine's, to the bit"


def test_layers_that_cast_keep_their_engine(capsys: pytest.CaptureFixture[str]) -> None:
    with host(used()) as engine:
        for layer in engine.unet.modules():
            if isinstance(layer, Linear):
                layer.parameters_manual_cast = True
        ours, _ = guided(engine, ON)
        capsys.readouterr()
        fast, _ = guided(engine, ON, chosen=FAST)
    assert "No fast steps: no layer is known to be a product" in capsys.readouterr().out
    for our, quick in zip(ours, fast, strict=True):
        assert our.uncond is not None and quick.uncond is not None
        assert torch.equal(our.uncond, quick.uncond)
