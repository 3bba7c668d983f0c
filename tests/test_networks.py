"""Which networks are weakened, and what the user is told."""

from __future__ import annotations

from typing import Any

import pytest

from lib_pg.accelerators import Sampling
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


FEW, MANY = Sampling(6, 1.5), Sampling(25, 7.0)


@pytest.mark.parametrize("sampling", [None, FEW])
def test_accelerators_that_the_run_needs_are_left_alone(sampling: Sampling | None) -> None:
    decided = plan(Settings(enabled=True), [network("dog"), network("lcm-lora-sdv1-5")], sampling)
    assert decided.ratios(0.5) == (0.5, 1.0)
    assert decided.notes == ()
    (remark,) = decided.remarks
    assert "lcm-lora-sdv1-5 is an accelerator" in remark and "not weakened" in remark
    assert "choose it under Networks or write :pg=" in remark
    assert (str(FEW) in remark) == (sampling is FEW)


def test_accelerators_are_weakened_where_the_run_needs_none() -> None:
    decided = plan(Settings(enabled=True), [network("dog"), network("lcm-lora-sdv1-5")], MANY)
    assert decided.ratios(0.5) == (0.5, 0.5)
    assert decided.notes == ()
    (remark,) = decided.remarks
    assert "25 steps and CFG scale 7 need none" in remark and ":pg=1" in remark


def test_a_lone_accelerator_is_named_where_nothing_else_can_be_weakened() -> None:
    decided = plan(Settings(enabled=True), [network("lcm-lora-sdv1-5")], FEW)
    assert not decided.weakens and decided.remarks == ()
    assert "lcm-lora-sdv1-5 is an accelerator" in decided.notes[0]


@pytest.mark.parametrize(
    ("sampling", "settings", "own", "asked"),
    [
        (FEW, {}, None, True),
        (MANY, {}, None, False),
        (None, {}, None, False),
        (FEW, {"networks": "turbo_car"}, None, False),
        (FEW, {}, 0.5, False),
    ],
)
def test_what_may_be_an_accelerator_is_weakened_and_asked_about_at_few_steps(
    sampling: Sampling | None, settings: dict[str, Any], own: float | None, asked: bool
) -> None:
    decided = plan(Settings(enabled=True, **settings), [network("turbo_car", own_ratio=own)], sampling)
    assert decided.ratios(0.5) == (own or 0.5,)
    assert [note for note in decided.notes if "turbo_car may be an accelerator" in note] == [*decided.notes]
    assert len(decided.notes) == asked


@pytest.mark.parametrize(
    ("settings", "networks", "said"),
    [
        (Settings(enabled=True), [], "plain CFG is used, with your negative prompt"),
        (Settings(enabled=True, mode="AG"), [], "plain CFG is used"),
        (Settings(enabled=True, networks="cat"), [network("dog")], "'cat' is to be weakened but"),
        (Settings(enabled=True), [network("dog", own_ratio=1.0)], "no network to weaken"),
        (Settings(enabled=True, schedule="Linear"), [network("dog")], "Linear goes from 0.7 to 0.7"),
        (Settings(enabled=True), [Network("cat", {})], "nothing of cat can be weakened here"),
        (Settings(enabled=True), [Network("cat", {}, reason="cat is asleep")], "cat is asleep"),
        (Settings(enabled=True, mode="AG"), [Network("cat", {}, own_ratio=0.5)], "plain CFG is used"),
    ],
)
def test_what_would_surprise_is_a_note(settings: Settings, networks: list[Network], said: str) -> None:
    assert any(said in note for note in plan(settings, networks).notes)


def test_describe_says_what_becomes_of_each() -> None:
    networks = [network("sks_dog"), network("detail", 0.6)]
    assert describe(networks, (0.5, 1.0)) == "sks_dog 1 -> 0.5 in the weak branch; detail 0.6 unchanged"
    assert describe([], ()) == ""
