"""The Forge adapter against a stand-in of the host's loop: which rows become what, and when."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from lib_pg.guidance import weak_ratio_at
from tests.hosts.forge.network_files import Network, Used, activate, host, network_file
from tests.hosts.forge.sampling import Evaluation, Processing, assert_close, guided, is_same, plain
from tests.hosts.forge.stand_in import Engine

OMEGA = 0.3
ON = {"enabled": True, "weak_ratio": OMEGA}
KINDS = ["Forge", "reForge", "Forge Classic"]


def used() -> Used:
    return [
        (Network("dog", 0.9, 0.8), network_file(10)),
        (Network("style", -0.5, 0.5), network_file(20)[1:4]),
    ]


def weak(
    omega: float, kind: Any = "Forge", family: Any = "SD", text_ratio: float | None = None, **options: Any
) -> list[Evaluation]:
    """Return the host's own evaluations with all networks merged at omega."""
    with host(used(), kind, family) as engine:
        activate(engine, used(), omega, text_ratio)
        return plain(engine, **({"negative": ""} | options))


def assert_weak(ours: list[Evaluation], theirs: list[Evaluation], reference: list[Evaluation]) -> None:
    """Uncond is that of the reference, and cond that of plain CFG to the bit."""
    for our, their, other in zip(ours, theirs, reference, strict=True):
        assert our.uncond is not None and other.uncond is not None
        assert_close(our.uncond, other.uncond)
        assert all(map(torch.equal, our.cond, their.cond))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("room", [9, 1], ids=["one call", "a call a chunk"])
@pytest.mark.parametrize("uncond_first", [True, False], ids=["uncond first", "cond first"])
@pytest.mark.parametrize("omega", [0.0, OMEGA])
def test_uncond_rows_equal_networks_merged_at_omega(
    kind: Any, pictures: int, room: int, uncond_first: bool, omega: float
) -> None:
    options = {"prompts": ["a dog", "a cat", "a hat"][:pictures], "pictures": pictures}
    options |= {"room": room, "uncond_first": uncond_first}
    with host(used(), kind) as engine:
        theirs = plain(engine, **options)
        calls, engine.unet.calls = engine.unet.calls, []
        ours, p = guided(engine, ON | {"weak_ratio": omega}, **options)
        strong = plain(engine, **options, negative="")
        assert engine.unet.calls[: len(calls)] == calls  # no row and no call more than CFG
    assert_weak(ours, theirs, weak(omega, kind, **options))
    assert not torch.allclose(ours[0].uncond, strong[0].uncond, rtol=1e-2)
    assert p.extra_generation_params["PG weak ratio"] == f"{omega:g}"
    assert p.comments == []


@pytest.mark.parametrize("room", [9, 1], ids=["one call", "two calls"])
@pytest.mark.parametrize("family", ["SDXL", "Flux"])
def test_conditionings_with_more_than_text_are_weak_too(family: Any, room: int) -> None:
    with host(used(), family=family) as engine:
        ours, _ = guided(engine, ON, room=room)
        theirs = plain(engine, room=room)
    assert_weak(ours, theirs, weak(OMEGA, family=family, room=room))


@pytest.mark.parametrize("family", ["SD", "SDXL", "Flux"])
def test_omega_one_is_cfg_with_an_empty_negative_prompt_to_the_bit(family: Any) -> None:
    with host(used(), family=family) as engine:
        ours, _ = guided(engine, ON | {"weak_ratio": 1})
        assert is_same(ours, plain(engine, negative=""))
        assert not is_same(ours, plain(engine))


def test_a_long_prompt_does_not_change_the_null_prompt() -> None:
    options = {"prompts": ["a dog that runs along a beach in the evening"]}
    with host(used()) as engine:
        ours, _ = guided(engine, ON, **options)
        assert_weak(ours, plain(engine, **options), weak(OMEGA, **options))


def test_the_prompt_may_give_a_network_its_own_ratio() -> None:
    with host(used()[:1]) as engine:
        own, _ = guided(engine, ON | {"weak_ratio": 0.9}, ratio="0.3")
        same, _ = guided(engine, ON)
        wrong, p = guided(engine, ON, ratio="7")
    assert is_same(own, same) and is_same(wrong, same)
    assert any("pg=7" in comment for comment in p.comments)


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("room", [9, 2, 1])
def test_prompts_with_and_keep_all_their_chunks(pictures: int, room: int) -> None:
    prompts = ["a dog", "a beach", "a sun", "a cat", "a wood", "a moon"][: 3 * pictures]
    options = {"prompts": prompts, "pictures": pictures, "room": room}
    with host(used()) as engine:
        ours, _ = guided(engine, ON, **options)
        assert_weak(ours, plain(engine, **options), weak(OMEGA, **options))


@pytest.mark.parametrize(
    "settings", [{"mode": "AG"}, {"start": 1.0, "outside": "None"}], ids=["AG", "outside None"]
)
def test_what_cannot_be_done_with_and_is_plain_cfg_and_said(settings: dict[str, Any]) -> None:
    options = {"prompts": ["a dog", "a beach"]}
    with host(used()) as engine:
        ours, p = guided(engine, ON | settings, **options)
        assert is_same(ours, plain(engine, **options))
    assert sum("AND" in comment for comment in p.comments) == 1
    assert p.extra_generation_params == {}


@pytest.mark.parametrize(
    ("settings", "negative"), [({"mode": "AG"}, "a dog"), ({"weak_prompt": "Negative"}, "ugly")]
)
@pytest.mark.parametrize("family", ["SD", "SDXL"])
def test_a_prompt_of_the_host_s_stays_as_it_was_encoded(
    settings: dict[str, Any], negative: str, family: Any
) -> None:
    with host(used(), family=family) as engine:
        ours, _ = guided(engine, ON | settings)
        theirs = plain(engine)
    assert_weak(ours, theirs, weak(OMEGA, family=family, text_ratio=1.0, negative=negative))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("room", [9, 1], ids=["one call", "two calls"])
def test_outside_none_leaves_uncond_out_and_brings_it_back(kind: Any, pictures: int, room: int) -> None:
    options = {"prompts": ["a dog", "a cat"][:pictures], "pictures": pictures, "room": room}
    with host(used(), kind) as engine:
        ours, p = guided(engine, ON | {"start": 0.25, "end": 0.75, "outside": "None"}, **options)
        calls = engine.unet.calls[:]
        everywhere, _ = guided(engine, ON, **options)
        assert "conditioning_modifiers" not in engine.forge_objects_after_applying_lora.unet.model_options
    assert [our.uncond is None for our in ours] == [True, False, False, True]
    assert torch.equal(ours[0].denoised, ours[0].cond[0])
    assert is_same(ours[1:3], everywhere[1:3])
    half, whole = (
        [(pictures, [0])],
        [(2 * pictures, [1, 0])] if room == 9 else [(pictures, [1]), (pictures, [0])],
    )
    assert calls == half + whole + whole + half
    assert p.extra_generation_params["PG outside"] == "None"


@pytest.mark.parametrize("calls_a_step", [1, 2])
def test_the_interval_counts_steps_and_not_calls(calls_a_step: int) -> None:
    with host(used()) as engine:
        ours, _ = guided(engine, ON | {"start": 0.25, "end": 0.5}, calls_a_step=calls_a_step)
        theirs = plain(engine, calls_a_step=calls_a_step)
    changed = [not is_same([our], [their]) for our, their in zip(ours, theirs, strict=True)]
    assert changed == [at // calls_a_step == 1 for at in range(4 * calls_a_step)]


def test_a_schedule_has_one_omega_for_both_calls_of_a_step() -> None:
    settings = ON | {"schedule": "Linear", "weak_ratio_end": 0.9}
    with host(used()) as engine:
        ours, _ = guided(engine, settings, calls_a_step=2)
        theirs = plain(engine, calls_a_step=2)
    for step in range(4):
        at = slice(2 * step, 2 * step + 2)
        reference = weak(weak_ratio_at(step, 4, "Linear", OMEGA, 0.9), calls_a_step=2)
        assert_weak(ours[at], theirs[at], reference[at])


@pytest.mark.parametrize("hires", ["Same", "Off", "Own"])
def test_hires_is_the_same_off_or_its_own(hires: str) -> None:
    p = Processing()
    p.is_hr_pass = True
    with host(used()) as engine:
        ours, _ = guided(engine, ON | {"hires": hires, "hires_weak_ratio": 0.9}, p)
        expected = {
            "Same": lambda: guided(engine, ON)[0],
            "Off": lambda: plain(engine),
            "Own": lambda: guided(engine, ON | {"weak_ratio": 0.9})[0],
        }[hires]()
    assert is_same(ours, expected)


def test_being_told_twice_of_a_pass_counts_its_steps_once() -> None:
    p = Processing()
    p.is_hr_pass = True
    settings = ON | {"start": 0.5, "outside": "None"}
    with host(used()) as engine:
        ours, _ = guided(engine, settings, p)
        assert is_same(ours, guided(engine, settings)[0])
    assert [our.uncond is None for our in ours] == [True, True, False, False]


def test_the_second_pass_has_the_ratios_of_its_own_prompt() -> None:
    p = Processing()
    p.is_hr_pass = True
    p.hr_extra_network_data = {"lora": [types.SimpleNamespace(positional=["dog", "1"], named={"pg": "0.9"})]}
    with host(used()[:1]) as engine:
        ours, _ = guided(engine, ON, p, ratio="0.1")
        assert is_same(ours, guided(engine, ON | {"weak_ratio": 0.9})[0])


@pytest.mark.parametrize("family", ["SDXL", "Flux"])
@pytest.mark.parametrize("is_hr_pass", [False, True], ids=["first pass", "second pass"])
def test_the_null_prompt_has_the_size_and_the_guidance_of_its_pass(family: Any, is_hr_pass: bool) -> None:
    p = Processing()
    p.is_hr_pass = is_hr_pass
    p.hr_upscale_to_x, p.hr_upscale_to_y, p.distilled_cfg_scale, p.hr_distilled_cfg = 96, 128, 2.0, 6.0
    with host(used(), family=family) as engine:
        ours, _ = guided(engine, ON | {"weak_ratio": 1}, p)
        assert is_same(ours, plain(engine, p, negative=""))


def test_the_user_s_clip_skip_is_set_before_the_null_prompt_is_encoded() -> None:
    with host(used()) as engine:
        guided(engine, ON)
        assert engine.clip_skips == [2]


@pytest.mark.parametrize(
    ("is_hr_pass", "cfg_scale", "hr_cfg", "runs"),
    [
        (False, 1.0, 7.0, False),
        (False, 7.0, 1.0, True),
        (True, 7.0, 1.0, False),
        (True, 1.0, 7.0, True),
        (True, 7.0, None, True),
        (True, 1.0, None, False),
    ],
)
def test_cfg_scale_one_of_a_pass_is_said_and_not_claimed(
    is_hr_pass: bool, cfg_scale: float, hr_cfg: float | None, runs: bool
) -> None:
    p = Processing()
    p.is_hr_pass, p.cfg_scale = is_hr_pass, cfg_scale
    with host(used(), "Forge" if hr_cfg else "Forge Classic") as engine:
        if hr_cfg is None:
            del p.hr_cfg
        else:
            p.hr_cfg = hr_cfg
        ours, _ = guided(engine, ON, p, without_uncond=not runs)
        assert is_same(ours, plain(engine, p, without_uncond=not runs)) is not runs
    assert sum("CFG scale 1" in comment for comment in p.comments) == (not runs)
    assert bool(p.extra_generation_params) is runs


def test_a_host_without_an_uncond_is_said_and_not_claimed() -> None:
    with host(used()) as engine:
        ours, p = guided(engine, ON, without_uncond=True)
        assert is_same(ours, plain(engine, without_uncond=True))
    assert sum("no unconditional branch" in comment for comment in p.comments) == 1
    assert p.extra_generation_params == {}


def test_a_host_that_leaves_uncond_out_of_every_step_is_told_of() -> None:
    with host(used()) as engine:
        ours, p = guided(engine, ON, skip_uncond=True)
        assert is_same(ours, plain(engine, skip_uncond=True))
    assert sum("left the unconditional branch out" in comment for comment in p.comments) == 1
    assert p.extra_generation_params == {}


def refiner_of(engine: Engine) -> Engine:
    other = Engine()
    other.unet.load_state_dict({name: 0.7 * w for name, w in engine.unet.state_dict().items()})
    other.pristine[0] = {name: w.clone() for name, w in other.forge_objects.unet.model.named_parameters()}
    activate(other, used())
    return other


@pytest.mark.parametrize(
    ("settings", "guided_steps"),
    [({}, [0, 1, 2, 3]), ({"start": 0.75}, [3]), ({"end": 0.5, "outside": "None"}, [0, 1])],
)
def test_a_refiner_is_guided_and_steps_are_counted_on(
    settings: dict[str, Any], guided_steps: list[int]
) -> None:
    with host(used()) as engine:
        refiner = (2, refiner_of(engine))
        ours, p = guided(engine, ON | settings, refiner=refiner)
        theirs = plain(engine, refiner=refiner)
        alone, _ = guided(refiner[1], ON)
    changed = [step for step in range(4) if ours[step].uncond is not None]
    changed = [step for step in changed if not torch.equal(ours[step].uncond, theirs[step].uncond)]
    assert changed == guided_steps
    if not settings:
        assert is_same(ours[2:], alone[2:])
    assert "PG mode" in p.extra_generation_params and p.comments == []


@pytest.mark.parametrize("where", ["within a pass", "refiner"])
def test_the_u_net_is_back_on_its_device_after_a_null_prompt_was_encoded(where: str) -> None:
    with host(used()) as engine:
        refiner = (2, refiner_of(engine)) if where == "refiner" else None
        schedule = "Linear" if refiner is None else "Constant"
        guided(engine, ON | {"schedule": schedule, "weak_ratio_end": 0.9}, refiner=refiner)
        models = [engine] if refiner is None else [engine, refiner[1]]
        assert all("" in model.encoded for model in models)
        assert [model.unet.calls_elsewhere for model in models] == [0] * len(models)


def test_the_prompt_may_give_a_network_a_strength_of_the_weak_branch_s_own() -> None:
    with host([(Network("dog", 1.0, 1.0), network_file(10))]) as engine:
        own, _ = guided(engine, ON | {"weak_ratio": 0.9}, weak="0.3")
        same, _ = guided(engine, ON)
    assert is_same(own, same)
