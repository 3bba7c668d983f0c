"""What AUTOMATIC1111's user is told of networks: what is weakened, what is not, which pass it is about."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_pg.hosts.a1111.networks import active_networks
from lib_pg.hosts.webui.asked import absent_networks
from tests.hosts.a1111.guided import OMEGA, ON, dog, guided, plain, start
from tests.hosts.a1111.lora_extension import KINDS
from tests.hosts.a1111.stand_in import Network, Processing, host, sample

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


@pytest.mark.parametrize("wanted", [["dog", "1", "pg:0.3"], ["dog", "pg=0=3"]])
def test_a_tag_that_the_host_cannot_read_is_one_cause_with_one_notice(wanted: list[str]) -> None:
    """The host then loads no network, the others of the prompt neither."""
    p = Processing()
    with host([]) as model:
        sys.modules["networks"].available_network_aliases = {"dog": None, "cat": None}
        guidance = start(p, ON)
        assert guidance is not None
        tags = [types.SimpleNamespace(positional=wanted, named={}), params("cat", "1")]
        guidance.read_ratios({"lora": tags})
        guidance.begin_pass(model)
        guidance.end_batch()
    assert p.comments == [
        f"Personalization Guidance: dog: {wanted[-1]!r} is a strength to the host, which then loads no "
        "network; write it as pg=0.3. The host has left out cat as well. So nothing is left to weaken: plain "
        "CFG is used, with your negative prompt"
    ]
    assert p.extra_generation_params == {}


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


UNKNOWN = "the host knows no network 'cat'; correct the name or refresh the host's list"
GONE = "the file of cat is gone; put it back or refresh the host's list"
WHY = "so it is in no branch; its console says why"


@pytest.mark.parametrize(
    ("forge", "loaded", "listed", "gone", "said"),
    [
        (False, ["dog"], ["dog", "cat"], [], f"the host has not loaded cat, {WHY}"),
        (False, ["dog"], ["dog"], [], UNKNOWN),
        (False, [], ["dog"], [], f"{UNKNOWN}. the host has not loaded dog, {WHY}"),
        (True, [], ["dog"], [], f"{UNKNOWN}. The host has left out dog as well"),
        (
            False,
            [],
            [],
            [],
            "the host knows no network 'dog', 'cat'; correct the name or refresh the host's list",
        ),
        (
            False,
            ["dog"],
            ["dog", "cat"],
            ["cat"],
            GONE,
        ),
        (
            True,
            [],
            ["dog", "cat"],
            ["cat"],
            f"{GONE}. The host has left out dog as well",
        ),
    ],
)
def test_a_network_that_the_host_has_not_loaded_is_named_with_its_cause(
    forge: bool,
    loaded: list[str],
    listed: list[str],
    gone: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Forge loads none of a prompt's networks where one of them is missing, and of these it says nothing."""
    if forge:
        monkeypatch.setitem(sys.modules, "modules_forge", types.ModuleType("modules_forge"))
    with host([Network(name) for name in loaded]):
        on_disk = {name: types.SimpleNamespace(filename=str(tmp_path / name)) for name in listed}
        for name in set(listed) - set(gone):
            (tmp_path / name).touch()
        sys.modules["networks"].available_network_aliases = on_disk
        found = absent_networks({"dog": "", "cat": ""})
        assert absent_networks(dict.fromkeys(loaded, "")) == {}
    assert found == {name: said for name in ("dog", "cat") if name not in loaded}


@pytest.mark.parametrize("networks", ["", "Dog"])
def test_where_nothing_is_left_a_missing_network_is_one_notice(networks: str) -> None:
    """Also where it is the one that was to be weakened."""
    p = Processing()
    with host([]) as model:
        guidance = start(p, {**ON, "networks": networks})
        assert guidance is not None
        guidance.read_ratios({"lora": [params("Dog", "1")]})
        sys.modules["networks"].available_network_aliases = {"dog": None}
        guidance.begin_pass(model)
        guidance.end_batch()
    (comment,) = p.comments
    assert "knows no network 'Dog'" in comment and "So nothing is left to weaken" in comment


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


def test_networks_that_a_refiner_has_not_are_one_notice() -> None:
    """AUTOMATIC1111 itself deactivates them when it loads one; its console does not say why."""
    p = Processing()
    with host([dog()]) as model:
        guidance = start(p, ON)
        assert guidance is not None
        guidance.read_ratios({"lora": [params("dog", "1")]})
        guidance.begin_pass(model)

        def step(given: Any) -> None:
            if given.sampling_step == 1:
                model.sd_checkpoint_info = types.SimpleNamespace(filename="models/refiner.safetensors")
                sys.modules["networks"].loaded_networks.clear()
            guidance.before_step(given, model)

        sample(p, model, step, **ONE)
        guidance.end_batch()
    assert p.comments == [
        "Personalization Guidance: refiner: the host drops the prompt's networks when it loads a refiner. So "
        "nothing is left to weaken: plain CFG is used, with your negative prompt"
    ]


@pytest.mark.parametrize("interval", [{"start": 0.99}, {"start": 0.5, "end": 0.5}])
@pytest.mark.parametrize("outside", ["CFG", "None"])
def test_an_interval_without_a_step_is_said_and_not_claimed(interval: dict[str, float], outside: str) -> None:
    with host([dog()]) as model:
        _, p = guided(model, {**ON, **interval, "outside": outside}, **ONE)
    (comment,) = p.comments
    assert "none of the 4 steps lies between start" in comment and "lower start or raise end" in comment
    assert p.extra_generation_params == {}
