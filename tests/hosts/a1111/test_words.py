"""What AUTOMATIC1111's user is told of networks: what is weakened, what is not, which pass it is about."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from lib_pg.hosts.a1111.networks import active_networks
from lib_pg.hosts.webui.lora_extension import missing_notes
from tests.hosts.a1111.guided import OMEGA, ON, dog, guided, plain, start
from tests.hosts.a1111.lora_extension import KINDS
from tests.hosts.a1111.stand_in import Network, Processing, host

ONE = {"prompts": ["a dog"], "pictures": 1}


@pytest.mark.parametrize(
    ("steps", "scale", "hires_steps", "spared"),
    [
        (20, 7.0, None, False),
        (6, 7.0, None, True),
        (20, 1.5, None, True),
        (20, 7.0, 6, True),
        (6, 7.0, 0, True),
    ],
)
def test_steps_and_scale_of_the_pass_decide_on_accelerators(
    steps: int, scale: float, hires_steps: int | None, spared: bool
) -> None:
    with host([Network("lcm-lora-sdv1-5")]) as model:
        p = Processing()
        p.steps, p.cfg_scale = steps, scale
        if hires_steps is not None:
            p.is_hr_pass, p.hr_second_pass_steps = True, hires_steps
        guided(model, ON, p, **ONE)
    assert any("is an accelerator" in comment for comment in p.comments) == spared


def params(*items: str) -> Any:
    """The host's own reading of one tag."""
    named = {key: value for key, _, value in (item.partition("=") for item in items) if value}
    return types.SimpleNamespace(positional=[item for item in items if "=" not in item], named=named)


@pytest.mark.parametrize("kind", ["lora", "lyco"])
@pytest.mark.parametrize("argument", ["pg=0.25", "PG=0.25", " pg = 0.25"])
def test_a_ratio_in_a_tag_is_read_however_it_is_spelled(kind: str, argument: str) -> None:
    with host([dog()]) as model:
        guidance = start(Processing(), ON)
        assert guidance is not None
        guidance.read_ratios({kind: [params("dog", "1", argument)]})
        guidance.begin_pass(model)
        assert guidance._pass is not None
        assert [network.own_ratio for network in guidance._pass.networks()] == [0.25]
        guidance.end_pass()


def test_a_ratio_that_the_host_takes_for_a_strength_is_said() -> None:
    p = Processing()
    guidance = start(p, ON)
    assert guidance is not None
    guidance.read_ratios({"lora": [params("dog", "1", "pg:0.3")]})
    (comment,) = p.comments
    assert "'pg:0.3' is a strength to the host" in comment


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("kind", ["LoRA", "LoHa", "DoRA"])
def test_a_network_that_is_named_twice_is_weakened_twice(kind: str, functional: bool) -> None:
    """The host has its one object in its list twice, at the strength of the last mention."""
    network = Network("dog", 0.5, 0.5, kind=kind)
    with host([network, network], functional) as model:
        strong = plain(model, **ONE)
        ours, p = guided(model, ON, **ONE)
    assert p.comments == []
    lowered = Network("dog", 0.5 * OMEGA, 0.5 * OMEGA, kind=kind)
    with host([lowered, lowered], functional) as model:
        low = plain(model, **ONE | {"negative": ""})
    for our, own, other in zip(ours, strong, low, strict=True):
        torch.testing.assert_close(our[:1], own[:1], rtol=1e-5, atol=1e-6)
        if kind != "DoRA" and not functional:  # or else omega is no strength
            torch.testing.assert_close(our[1:], other[1:], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(our[1:], own[1:], atol=1e-3)


def test_with_weights_in_fp8_the_last_mention_is_all_there_is() -> None:
    with host([dog()]) as model:
        layers = {key: model.network_layer_mapping[f"diffusion_model_{key}"] for key in ("conv", "linear")}
        for layer in layers.values():
            layer.fp16_weight = layer.weight
        lora = sys.modules["networks"]
        (network,) = lora.loaded_networks
        network.modules = {
            f"diffusion_model_{key}": network.modules[f"diffusion_model_{key}"] for key in layers
        }
        lora.loaded_networks = [network, network]
        networks, notes = active_networks(model.network_layer_mapping, {})
        assert [each.name for each in networks] == ["dog"] and notes == []
        lora.loaded_networks = [network, Network("cat", modules=network.modules)]
        networks, notes = active_networks(model.network_layer_mapping, {})
        assert [bool(each.parts) for each in networks] == [False, True] and notes == []
        assert "dog is not in the picture: with weights in FP8 the host keeps cat alone" in networks[0].reason


def test_what_cannot_be_weakened_is_named_as_users_call_it_and_what_it_means() -> None:
    """Here a LoHa's part for a norm, while the host adds networks in forwards."""
    said = (
        "dog: its LoHa in normalisation layers, while the host's setting lora_functional is on, cannot be "
        "weakened (1 layer). Both branches are alike there, so the picture is not guided towards what dog "
        "does in them"
    )
    key = "diffusion_model_norm"
    with host([dog(kind="LoHa")], functional=True) as model:
        (network,) = sys.modules["networks"].loaded_networks
        network.modules[key] = KINDS["LoHa"](network, key, model.network_layer_mapping[key], (6, 1))
        (found,), notes = active_networks(model.network_layer_mapping, {})
        assert notes == [said] and found.parts
        network.modules = {key: network.modules[key]}
        (found,), notes = active_networks(model.network_layer_mapping, {})
        assert notes == [] and found.reason == said and not found.parts


@pytest.mark.parametrize(
    ("loaded", "listed", "said"),
    [
        (["dog"], ["dog", "cat"], []),
        ([], ["dog"], ["the host knows no network 'cat' and so has left out dog as well; correct the name"]),
        (["dog"], ["dog"], ["the host knows no network 'cat'; correct the name or refresh the host's list"]),
        ([], [], ["the host knows no network 'dog', 'cat'; correct the name"]),
        (
            ["dog"],
            ["dog", "cat"],
            ["the host has not loaded cat, so it is in no branch; its console says why"],
        ),
    ],
)
def test_a_network_that_the_host_has_not_loaded_is_named(
    loaded: list[str], listed: list[str], said: list[str]
) -> None:
    wanted = ["dog", "cat"] if said else ["dog"]
    with host([Network(name) for name in loaded]):
        lora = sys.modules["networks"]
        lora.available_network_aliases = dict.fromkeys(listed)
        notes = missing_notes(wanted)
    assert len(notes) == len(said) and all(map(str.startswith, notes, said))


def test_a_missing_network_is_told_with_the_pass() -> None:
    p = Processing()
    p.enable_hr = True
    with host([dog()]) as model:
        guidance = start(p, ON)
        assert guidance is not None
        guidance.read_ratios({"lora": [params("dog", "1"), params("Dog", "1")]})
        sys.modules["networks"].available_network_aliases = {"dog": None}
        guidance.begin_pass(model)
        guidance.end_batch()
    assert p.comments == [
        "Personalization Guidance: first pass: the host knows no network 'Dog'; "
        "correct the name or refresh the host's list"
    ]


@pytest.mark.parametrize("interval", [{"start": 0.99}, {"start": 0.5, "end": 0.5}])
@pytest.mark.parametrize("outside", ["CFG", "None"])
def test_an_interval_without_a_step_is_said_and_not_claimed(interval: dict[str, float], outside: str) -> None:
    with host([dog()]) as model:
        _, p = guided(model, {**ON, **interval, "outside": outside}, **ONE)
    (comment,) = p.comments
    assert "none of the 4 steps lies between start" in comment and "lower start or raise end" in comment
    assert p.extra_generation_params == {}
