"""Networks of every kind in AUTOMATIC1111: what the host can merge is weakened by the host's own merging."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lib_pg.hosts.a1111.merging import pristine
from lib_pg.hosts.a1111.networks import active_networks
from lib_pg.weak_branch import WeakBranch, detach_all
from tests.hosts.a1111.guided import OMEGA, ON, guided, plain, weak
from tests.hosts.a1111.lora_extension import KINDS, NetworkModuleNewest
from tests.hosts.a1111.stand_in import WIDTH, Model, Network, host

OPTIONS: dict[str, Any] = {"prompts": ["a dog", "a cat"], "pictures": 2}
kinds = pytest.mark.parametrize("kind", sorted(KINDS))


def one(kind: str, te: float = 0.9, unet: float = 0.8) -> Network:
    return Network("dog", te, unet, kind=kind)


def assert_weak(ours: list[Tensor], strong: list[Tensor], low: list[Tensor]) -> None:
    for our, own, other in zip(ours, strong, low, strict=True):
        torch.testing.assert_close(our[:2], own[:2], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(our[2:], other[2:], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(own[2:], other[2:], atol=1e-3), "the network does nothing here"


def parameters(model: Model) -> dict[str, Tensor]:
    """Return every parameter object of the layers, by name."""
    layers: dict[str, nn.Module] = model.network_layer_mapping
    return {
        f"{key}.{name}": value for key, layer in layers.items() for name, value in layer.named_parameters()
    }


@kinds
@pytest.mark.parametrize("batched", [True, False], ids=["one call", "two calls"])
def test_a_kind_is_weak_by_the_hosts_own_merging(kind: str, batched: bool) -> None:
    options = OPTIONS | {"batch_cond_uncond": batched}
    with host([one(kind)]) as model:
        strong = plain(model, **options)
        before = parameters(model)
        bits = {name: value.clone() for name, value in before.items()}
        ours, p = guided(model, ON, **options)
        after = parameters(model)
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert all(torch.equal(after[name], bits[name]) for name in bits)
    assert not any(
        "forward" in vars(layer) or layer._forward_hooks for layer in model.network_layer_mapping.values()
    )
    assert p.comments == [] and p.extra_generation_params["PG mode"] == "PG"
    assert_weak(ours, strong, weak(OMEGA, [one(kind)], **options))


def branch_of(model: Model, ratios: list[float]) -> WeakBranch:
    """Return a branch on the U-Net for one row, which is weak."""
    networks, notes = active_networks(model.network_layer_mapping, {})
    assert notes == []
    branch = WeakBranch([network.parts["unet"] for network in networks], pristine=pristine)
    branch.set_ratios(ratios)
    branch.set_rows([0], 1)
    return branch


@kinds
def test_the_first_call_may_be_one_of_weak_rows_alone(kind: str) -> None:
    """The host merges at a layer's first call: not into our weights."""
    with host([one(kind)]) as model:
        with branch_of(model, [OMEGA]):
            model.model.diffusion_model(torch.ones(1, WIDTH), torch.zeros(1), torch.zeros(1, 3, WIDTH))
        merged = parameters(model)
    with host([one(kind)]) as model:
        model.model.diffusion_model(torch.ones(1, WIDTH), torch.zeros(1), torch.zeros(1, 3, WIDTH))
        expected = parameters(model)
    assert all(torch.equal(merged[name], expected[name]) for name in expected)


@pytest.mark.parametrize("first", sorted(KINDS))
@pytest.mark.parametrize("second", sorted(KINDS))
def test_two_networks_on_one_layer_have_omegas_of_their_own(first: str, second: str) -> None:
    """Each contributes what the host's merging adds to what the one before it has left."""
    networks = [one(first), Network("style", 0.7, 0.5, kind=second)]
    x = torch.randn(1, WIDTH)
    with host(networks) as model:
        layer = model.network_layer_mapping["diffusion_model_linear"]
        weight, bias = layer.weight.clone(), layer.bias.clone()
        below, total = weight, [weight.clone(), bias.clone()]
        for network, omega in zip(networks, (0.3, 0.8), strict=True):
            added, added_bias = network.modules["diffusion_model_linear"].calc_updown(below)
            below = below + added
            total[0] += omega * added
            total[1] += 0 if added_bias is None else omega * added_bias
        with branch_of(model, [0.3, 0.8]):
            weak_row = layer(x)
    torch.testing.assert_close(weak_row, functional.linear(x, *total), rtol=1e-5, atol=1e-6)


def assert_rows_change(ours: list[Tensor], strong: list[Tensor]) -> None:
    for our, own in zip(ours, strong, strict=True):
        torch.testing.assert_close(our[:2], own[:2], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(our[2:], own[2:], atol=1e-3)


@kinds
def test_a_network_that_only_the_weak_branch_has(kind: str) -> None:
    """`<lora:dog:0:weak=1>`: the host has it at strength 0."""
    options = OPTIONS | {"negative": ""}
    with host([one(kind, 1.0, 1.0)]) as model:
        reference = plain(model, **options)
    with host([one(kind, 0.0, 0.0)]) as model:
        strong = plain(model, **options)
        ours, _ = guided(model, ON, weak="1", **options)
    assert_weak(ours, strong, reference)


@kinds
def test_where_the_host_adds_in_forward_it_is_weak_too(kind: str) -> None:
    """The host's setting `lora_functional`: norms are passed over there, which is said."""
    network = one(kind)
    with host([network], functional=True) as model:
        for name in [name for name in network.modules if "norm" in name]:
            del network.modules[name]
        strong = plain(model, **OPTIONS)
        ours, p = guided(model, ON, **OPTIONS)
    assert_rows_change(ours, strong)
    assert p.comments == []
    lowered = one(kind, 0.9 * OMEGA, 0.8 * OMEGA)
    with host([lowered], functional=True) as model:
        for name in [name for name in lowered.modules if "norm" in name]:
            del lowered.modules[name]
        reference = plain(model, **OPTIONS | {"negative": ""})
    for our, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(our[2:], other[2:], rtol=1e-5, atol=1e-6)


def test_an_exception_leaves_the_hosts_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    with host([one("Newest")]) as model:
        strong = plain(model, **OPTIONS)
        bits = {name: value.clone() for name, value in parameters(model).items()}

        def fail(*_: Any) -> None:
            raise RuntimeError("no memory")

        monkeypatch.setattr(NetworkModuleNewest, "change", fail)
        guided(model, ON, **OPTIONS)
        detach_all(model.model.diffusion_model)
        assert all(torch.equal(value, bits[name]) for name, value in parameters(model).items())
        assert all(map(torch.equal, plain(model, **OPTIONS), strong))


def test_a_hypernetwork_is_said_to_stay() -> None:
    with host([one(sorted(KINDS)[0])]) as model:
        sys.modules["modules"].shared.loaded_hypernetworks.append(types.SimpleNamespace(name="anime"))
        _, p = guided(model, ON, **OPTIONS)
    assert len(p.comments) == 1
    assert "the hypernetwork anime is not weakened, both branches have it" in p.comments[0]
    assert p.extra_generation_params["PG mode"] == "PG"
