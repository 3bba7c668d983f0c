"""Which networks are weakened, and what the user is told."""

from __future__ import annotations

from typing import Any

import pytest

from lib_pg.deltas import ActiveNetwork
from lib_pg.networks import Network, describe, plan
from lib_pg.settings import Settings


def network(name: str, strength: float = 1.0, weak: float | None = None, **more: Any) -> Network:
    return Network(name, {"unet": ActiveNetwork(name, {}, strength, weak)}, **more)


def test_every_network_follows_the_slider_by_default() -> None:
    decided = plan(Settings(enabled=True), [network("dog"), network("style")])
    assert decided.ratios(0.25) == (0.25, 0.25)
    assert decided.notes == ()


def test_a_ratio_of_its_own_wins_over_slider_and_list() -> None:
    networks = [network("dog", own_ratio=0.3), network("style"), network("detail", own_ratio=1.0)]
    assert plan(Settings(enabled=True), networks).ratios(0.6) == (0.3, 0.6, 1.0)
    assert plan(Settings(enabled=True, networks="style"), networks).ratios(0.6) == (0.3, 0.6, 1.0)


def test_a_strength_of_the_weak_branch_s_own_wins_over_everything() -> None:
    networks = [network("dog", 1.0, 0.4, own_ratio=0.3), network("bad", 0.0, 1.0), network("lcm", 1.0, 0.0)]
    decided = plan(Settings(enabled=True, networks="style"), networks)
    assert decided.weakens
    assert [each.weak_at(ratio) for each, ratio in zip(networks, decided.ratios(0.6), strict=True)] == [
        0.4,
        1,
        0,
    ]
    said = describe(networks, decided.ratios(0.6))
    assert said == (
        "dog 1 -> 0.4 in the weak branch; bad 1 in the weak branch alone; lcm 1 -> 0 in the weak branch"
    )


def test_a_strength_that_is_the_same_in_both_branches_weakens_nothing() -> None:
    assert not plan(Settings(enabled=True), [network("dog", 0.8, 0.8), network("cat", 0.0)]).weakens


def test_the_list_names_those_to_weaken_whatever_their_case() -> None:
    decided = plan(
        Settings(enabled=True, networks="DOG, lcm"), [network("dog"), network("style"), network("lcm")]
    )
    assert decided.ratios(0.5) == (0.5, 1.0, 0.5)
    assert decided.notes == ()


@pytest.mark.parametrize(
    "name",
    ["lcm-lora-sdv1-5", "LCM_LoRA_Weights_SD15", "Hyper-SD15-8steps-CFG-lora", "sdxl_lightning_4step_lora",
     "dmd2_sdxl_4step_lora", "pcm_sd15_smallcfg_8step", "SDXL-Turbo-lora", "TCD"],
)  # fmt: skip
def test_accelerators_are_known_by_name_and_left_alone(name: str) -> None:
    decided = plan(Settings(enabled=True), [network("dog"), network(name)])
    assert decided.ratios(0.5) == (0.5, 1.0)
    assert any(name in note and "accelerator" in note for note in decided.notes)


@pytest.mark.parametrize("name", ["hyperrealistic", "turbocharged", "my_dog", "pcmaster", "overlightning"])
def test_other_names_are_no_accelerators(name: str) -> None:
    assert not network(name).is_accelerator


def test_accelerators_are_known_by_metadata() -> None:
    assert network("fast", metadata={"modelspec.title": "LCM LoRA"}).is_accelerator
    assert network("fast", metadata={"ss_output_name": "sdxl_lightning"}).is_accelerator


@pytest.mark.parametrize(
    ("settings", "networks", "said"),
    [
        (Settings(enabled=True), [], "plain CFG is used, with your negative prompt"),
        (Settings(enabled=True, mode="AG"), [], "plain CFG is used"),
        (Settings(enabled=True, networks="cat"), [network("dog")], "'cat' is to be weakened but"),
        (Settings(enabled=True), [network("dog", own_ratio=1.0)], "no network to weaken"),
        (Settings(enabled=True), [Network("cat", {})], "nothing of cat can be weakened here"),
        (Settings(enabled=True, mode="AG"), [Network("cat", {}, own_ratio=0.5)], "plain CFG is used"),
    ],
)
def test_what_would_surprise_is_a_note(settings: Settings, networks: list[Network], said: str) -> None:
    assert any(said in note for note in plan(settings, networks).notes)


def test_describe_says_what_becomes_of_each() -> None:
    networks = [network("sks_dog"), network("detail", 0.6)]
    assert describe(networks, (0.5, 1.0)) == "sks_dog 1 -> 0.5 in the weak branch; detail 0.6 unchanged"
    assert describe([], ()) == ""
