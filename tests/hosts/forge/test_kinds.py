"""Networks of every kind in the Forge family: the host's own merging of a layer says what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lib_pg.hosts.forge.networks import active_networks
from lib_pg.weak_branch.hooks import is_taken
from tests.hosts.forge.network_files import Change, Network, activate, host, lora, network_file
from tests.hosts.forge.sampling import assert_close, guided, plain
from tests.hosts.forge.stand_in import WIDTH, Engine
from tests.hosts.forge.test_networks import CONV, KINDS, OUT, POINT, QKV, assert_equals_merged, changed

hosts = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def named(name: str, *shapes: tuple[int, ...], key: str = OUT, **options: Any) -> Change:
    random = torch.Generator().manual_seed(sum(map(ord, name)))
    tensors = tuple(0.5 * torch.randn(shape, generator=random) for shape in shapes)
    return Change(key, (name, tensors), **options)


CHANGES = {
    "full difference": named("diff", (WIDTH, WIDTH)),
    "replaced weight": named("set", (WIDTH, WIDTH)),
    "DoRA": changed(lora(OUT, (WIDTH, WIDTH), 1), dora=torch.full((WIDTH, 1), 0.7)),
    "LoKr": named("lokr", (2, 2), (3, 3)),
    "GLoRA": named("glora", (WIDTH, WIDTH), (WIDTH, WIDTH)),
    "newest": named("newest", (1,)),
    "bias": named("diff", (WIDTH,), key="diffusion_model.out.bias"),
    "norm": named("diff", (WIDTH,), key="diffusion_model.norm.weight"),
    "convolution": named("glora", (WIDTH, 9 * WIDTH), (9 * WIDTH, 9 * WIDTH), key=CONV),
    "a part": named("diff", (WIDTH, WIDTH), key=QKV, offset=(0, WIDTH, WIDTH)),
    "a function": lora(OUT, (WIDTH, WIDTH), 1, function=lambda weight: weight.abs()),
}
CASES = [
    (kind, name) for kind in KINDS for name in CHANGES if (kind, name) != ("Forge Classic", "DoRA")
]  # Classic's patches have neither DoRA nor parts
CASES = [case for case in CASES if case[0] != "Forge Classic" or case[1] not in ("a part", "a function")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_kind_is_weak_by_the_hosts_own_merging(kind: Any, name: str) -> None:
    used = [(Network("dog", unet_multiplier=0.8), [lora(POINT, (WIDTH, WIDTH, 1, 1), 1), CHANGES[name]])]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, 0.3) == []


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("order", [1, -1])
def test_networks_of_several_kinds_have_omegas_of_their_own(kind: Any, name: str, order: int) -> None:
    """Each contributes what the host adds to what the one before it has left."""
    first = [lora(key, shape, 7) for key, shape in ((OUT, (WIDTH, WIDTH)), (QKV, (3 * WIDTH, WIDTH)))]
    used = [
        (Network("dog", unet_multiplier=0.8), first),
        (Network("style", unet_multiplier=0.6), [CHANGES[name]]),
    ][::order]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, 0.3, 0.8) == []


@hosts
def test_a_generation_is_guided_in_unet_and_text_encoder(kind: Any) -> None:
    file = [
        named("newest", (1,), key=OUT),
        named("glora", (WIDTH, WIDTH), (WIDTH, WIDTH), key="clip_l.layer.weight"),
    ]
    used = [(Network("dog", 0.9, 0.8), file)]
    settings = {"enabled": True, "weak_ratio": 0.3}
    with host(used, kind) as engine:
        strong = plain(engine)
        weights = {name: (value, value.clone()) for name, value in engine.unet.named_parameters()}
        ours, p = guided(engine, settings)
        for name, value in engine.unet.named_parameters():
            assert value is weights[name][0] and torch.equal(value, weights[name][1])
        assert not any(map(is_taken, engine.unet.modules())) and not is_taken(engine.text_layer)
        assert p.comments == [] and p.extra_generation_params["PG mode"] == "PG"
    with host(used, kind) as lowered:
        activate(lowered, used, 0.3)
        reference = plain(lowered, negative="")
    for our, own, low in zip(ours, strong, reference, strict=True):
        assert our.uncond is not None and low.uncond is not None
        assert_close(our.cond[0], own.cond[0])
        assert_close(our.uncond, low.uncond)
        assert not torch.allclose(own.cond[0], low.cond[0], rtol=1e-3)


@hosts
def test_a_network_that_only_the_weak_branch_has(kind: Any) -> None:
    """`<lora:dog:0:weak=1>`: the host has it at strength 0."""
    file = [named("newest", (1,), key=OUT), named("diff", (WIDTH, WIDTH, 1, 1), key=POINT)]
    with host([(Network("dog", 1.0, 1.0), file)], kind) as engine:
        reference = plain(engine, negative="")
    with host([(Network("dog", 0.0, 0.0), file)], kind) as engine:
        ours, _ = guided(engine, {"enabled": True, "weak_ratio": 0.3}, weak="1")
    for our, other in zip(ours, reference, strict=True):
        assert our.uncond is not None and other.uncond is not None
        assert_close(our.uncond, other.uncond)


def test_what_other_extensions_have_put_into_a_weight_stays() -> None:
    file, theirs = [named("newest", (1,))], [named("diff", (WIDTH, WIDTH))]
    network, other = Network("dog", 0.9, 0.8), Network("other")
    with host([(network, file)]) as engine:
        activate(engine, [(other, theirs), (network, file)])
        networks, _ = active_networks(engine, {})
        settings = {"enabled": True, "weak_ratio": 0.3}
        ours, _ = guided(engine, settings)
        lowered = Engine("Forge")
        activate(lowered, [(other, theirs), (network, file)], [1.0, 0.3])
        reference = plain(lowered, negative="")
    assert [found.name for found in networks] == ["dog"]
    for our, low in zip(ours, reference, strict=True):
        assert our.uncond is not None and low.uncond is not None
        assert_close(our.uncond, low.uncond)


def test_what_cannot_be_weakened_is_named_with_its_reason() -> None:
    changes = [named("lokr", (2, 2), (3, 3)), lora(CONV, (WIDTH, WIDTH, 3, 3), 1)]
    used = [(Network("dog"), changes)]
    with host(used) as engine:
        patcher = engine.forge_objects_after_applying_lora.unet
        (name, patches), *_ = patcher.lora_patches.items()
        patcher.lora_patches = {(*name[:3], True): patches}
        (online,), notes = active_networks(engine, {})
        assert notes == [
            "dog: its LoKr, which the host adds in every call to quantised weights, cannot be weakened "
            "(1 layer). Both branches are alike there, so the picture is not guided towards what dog "
            "does in them"
        ]
        assert len(online.parts["unet"].deltas) == 1  # LoRA can
        patcher.lora_patches = {name: patches}
        engine.unet.out.weight = nn.Parameter(
            torch.zeros(WIDTH, WIDTH, dtype=torch.uint8), requires_grad=False
        )
        _, notes = active_networks(engine, {})
        assert "LoKr on quantised weights" in notes[0]
        patcher.lora_patches = {
            (*name[:3], True): {"diffusion_model.out.weight": patches["diffusion_model.out.weight"]}
        }
        (nothing,), notes = active_networks(engine, {})
        assert not nothing.parts and notes == [] and "dog: its LoKr, which the host adds" in nothing.reason


@hosts
def test_a_layer_of_plain_lora_stays_thin(kind: Any) -> None:
    with host([(Network("dog"), network_file(10))], kind) as engine:
        (network,), _ = active_networks(engine, {})
    assert {delta.kind for delta in network.parts["unet"].deltas.values()} == {"LoRA"}
