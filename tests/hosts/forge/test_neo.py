"""What Forge Neo of summer 2026 does its own way: layers without room, quantised models, parts of weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lib_pg.deltas import LowRank, Parts
from lib_pg.hosts.forge.merging import HostDelta
from lib_pg.hosts.forge.networks import active_networks
from tests.hosts.forge.network_files import Network, host, lora, network_file, offload
from tests.hosts.forge.sampling import assert_close, guided, hooks, plain
from tests.hosts.forge.stand_in import WIDTH
from tests.hosts.forge.test_kinds import CHANGES
from tests.hosts.forge.test_networks import OUT, QKV, assert_equals_merged

NEO: Any = "Forge Neo"
OPTIONS: dict[str, Any] = {"prompts": ("a dog", "a cat"), "pictures": 2}
ON = {"enabled": True, "weak_ratio": 0.3}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_a_lora_is_weak_in_a_layer_that_the_host_merges_at_every_call() -> None:
    used = [(Network("dog", 0.9, 0.8), network_file(10)), (Network("style", 0.4, -0.5), network_file(20))]
    with host(used, NEO) as engine:
        merged, _ = guided(engine, ON, **OPTIONS)
    with host(used, NEO) as engine:
        offload(engine, OUT)
        assert assert_equals_merged(engine, used, 0.3, 0.6) == []
        ours, p = guided(engine, ON, **OPTIONS)
    assert p.comments == []
    for one, other in zip(ours, merged, strict=True):
        assert one.uncond is not None and other.uncond is not None
        assert_close(one.uncond, other.uncond)


@pytest.mark.parametrize("kind", ["LoKr", "GLoRA", "newest"])
def test_other_kinds_there_are_said_to_be_out_of_reach(kind: str) -> None:
    used = [(Network("dog", unet_multiplier=0.8), [CHANGES[kind]])]
    with host(used, NEO) as engine:
        offload(engine, OUT)
        before = plain(engine, **OPTIONS)
        _, p = guided(engine, ON, **OPTIONS)
        after = plain(engine, **OPTIONS)
        assert hooks(engine) == 0
    assert any("merges networks in every call of some layers" in line for line in p.comments)
    assert "PG mode" not in p.extra_generation_params
    for one, other in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.cond, other.cond, strict=True))


def test_a_part_of_a_weight_may_be_named_with_it() -> None:
    changes = [lora(QKV, (WIDTH, WIDTH), i, offset=(0, i * WIDTH, WIDTH)) for i in (0, 2)]
    used = [(Network("dog", unet_multiplier=0.8), changes)]
    with host(used, NEO) as engine:
        patcher = engine.forge_objects.unet
        patches = patcher.patches.pop(QKV)
        for strength, value, factor, offset, function in patches:
            patcher.patches[QKV, offset] = [(strength, value, factor, None, function)]
        (network,), notes = active_networks(engine, {})
        (delta,) = network.parts["unet"].deltas.values()
    assert notes == []
    assert isinstance(delta, Parts)
    assert sorted(part.start for part in delta.parts) == [0, 2 * WIDTH]


@pytest.mark.parametrize("model", ["Nunchaku", "Int8"])
def test_a_quantised_model_that_adds_networks_itself_is_said(model: str) -> None:
    used = [(Network("dog", unet_multiplier=0.8), network_file(10))]
    with host(used, NEO) as engine:
        patcher = engine.forge_objects.unet
        patcher.patches.clear()
        engine.forge_objects.clip.patcher.patches.clear()
        if model == "Nunchaku":
            engine.unet.loras = [("dog.safetensors", 0.8)]
        else:
            patcher.model_options["transformer_options"]["dynamic_loras"] = [{"name": "dog"}]
        (network,), _ = active_networks(engine, {})
        _, p = guided(engine, ON, **OPTIONS)
    assert f"dog is added by the host's {model} model itself" in network.reason
    assert any(f"the host's {model} model itself" in line for line in p.comments)
    assert "PG mode" not in p.extra_generation_params


def test_a_lora_that_makes_its_weight_larger_is_merged_by_the_host() -> None:
    used = [(Network("dog", unet_multiplier=0.8), [lora(OUT, (WIDTH, WIDTH), 1)])]
    with host(used, NEO) as engine:
        ((_, value, *_),) = engine.forge_objects.unet.patches[OUT]
        (plain_one,), _ = active_networks(engine, {})
        value.weights = (*value.weights[:5], [WIDTH, WIDTH])
        (larger,), _ = active_networks(engine, {})
    kinds = [type(next(iter(n.parts["unet"].deltas.values()))) for n in (plain_one, larger)]
    assert kinds == [LowRank, HostDelta]
