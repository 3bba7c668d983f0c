"""The Forge adapter when a run ends, fails or meets other extensions: nothing stays, nothing is claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.hosts.forge import sampling_pass
from lib_pg.hosts.forge.sampling_pass import ForgePass
from lib_pg.hosts.webui.generation import clean
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.weak_branch.stack import Stack
from tests.hosts.forge.network_files import Network, activate, host, network_file
from tests.hosts.forge.sampling import (
    Again,
    InterruptedException,
    Params,
    Processing,
    assert_close,
    guided,
    hooks,
    is_same,
    plain,
    sample,
    start,
)
from tests.hosts.forge.stand_in import Engine
from tests.hosts.forge.test_sampling_pass import KINDS, OMEGA, ON, used, weak

SKIPS = {"start": 0.5, "outside": "None"}


def bits(engine: Engine) -> list[Tensor]:
    objects = engine.forge_objects_original
    models = objects.unet.model, objects.clip.patcher.model
    return [weight.clone() for model in models for weight in model.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, SKIPS], ids=["everywhere", "outside None"])
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize(
    "fault", [None, ValueError("broken"), InterruptedException(), KeyboardInterrupt()], ids=repr
)
def test_after_any_ending_nothing_of_ours_is_left(
    kind: Any, settings: dict[str, Any], at: int, fault: BaseException | None
) -> None:
    """Without a word from the host: after an error it calls no script method."""
    with host(used(), kind) as engine:
        expected, before = plain(engine), bits(engine)
        p = Processing()
        start_of_run = start(p, ON | settings)
        start_of_run.begin_pass(engine)
        assert hooks(engine) > 0
        engine.unet.fault = (len(engine.unet.calls) + at, fault) if fault is not None else None
        if fault is None or isinstance(fault, InterruptedException):
            sample(p, engine, start_of_run.before_step)
        else:
            with pytest.raises(type(fault)):
                sample(p, engine, start_of_run.before_step)
        assert hooks(engine) == 0
        assert not engine.forge_objects.unet.model_options.get("conditioning_modifiers")
        assert all(map(torch.equal, bits(engine), before))
        engine.unet.fault = None
        assert is_same(sample(Processing(), engine, lambda params, engine: None), expected)
        assert p.comments == []


def test_an_exception_while_the_null_prompt_is_encoded_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with host(used()) as engine:

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        handle = engine.text_layer.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            start(Processing(), ON).begin_pass(engine)
        handle.remove()
        clean(engine, ForgePass)  # as the next generation does
        assert hooks(engine) == 0


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no memory")


def fail_later(original: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = iter(range(1000))
    return lambda *args, **named: fail() if next(calls) >= after else original(*args, **named)


@pytest.mark.parametrize("settings", [{}, SKIPS], ids=["everywhere", "outside None"])
@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (Stack, "add_to", 2),
        (ForgePass, "_after_unet", 2),
        (ForgePass, "_null_for", 1),
        (ForgePass, "_encode_null", 0),
        (ForgePass, "_install_skip", 0),
        (sampling_pass, "active_networks", 0),
    ],
)
def test_a_fault_of_ours_leaves_a_finished_plain_picture_and_claims_nothing(
    owner: Any, name: str, after: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "_install_skip" and not settings:
        settings = SKIPS
    with host(used()) as engine:
        before, theirs = bits(engine), plain(engine)
        monkeypatch.setattr(owner, name, fail_later(getattr(owner, name), after))
        ours, p = guided(engine, ON | settings)
        assert len(ours) == len(theirs)
        assert is_same(ours[-1:], theirs[-1:])
        assert hooks(engine) == 0
        assert all(map(torch.equal, bits(engine), before))
        assert not engine.forge_objects.unet.model_options.get("conditioning_modifiers")
    assert p.extra_generation_params == {}
    assert len(p.comments) == 1 and "no memory" in p.comments[0]


def test_a_fault_is_not_told_as_the_host_s_leaving_uncond_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with host(used()) as engine:
        monkeypatch.setattr(ForgePass, "_before_unet", fail_later(ForgePass._before_unet, 2))
        _, p = guided(engine, ON | {"start": 0.5})
    assert len(p.comments) == 1 and "no memory" in p.comments[0]


@pytest.mark.parametrize("tiles", [2, 3])
@pytest.mark.parametrize("pictures", [1, 2])
def test_tiles_repeat_the_pattern_of_rows(tiles: int, pictures: int) -> None:
    options = {"prompts": ["a dog", "a cat"][:pictures], "pictures": pictures, "tiles": tiles}
    with host(used()) as engine:
        ours, p = guided(engine, ON, **options)
        theirs = plain(engine, **options)
    for our, their, other in zip(ours, theirs, weak(OMEGA, **options), strict=True):
        assert_close(our.uncond, other.uncond)
        assert all(map(torch.equal, our.cond, their.cond))
    assert p.comments == []


def test_rows_that_cannot_be_told_apart_are_said_and_left_alone() -> None:
    """Another extension runs five rows where two chunks of two are meant."""
    options = {"prompts": ["a dog", "a cat"], "pictures": 2}

    def five_rows(module: Any, args: Any, kwargs: Any) -> Any:
        return (torch.cat([args[0], args[0][:1]]), *args[1:]), kwargs | {
            "context": torch.cat([kwargs["context"], kwargs["context"][:1]])
        }

    with host(used()) as engine:
        p = Processing()
        guidance = start(p, ON)
        guidance.write_infotext()
        handle = engine.unet.register_forward_pre_hook(five_rows, with_kwargs=True)
        cut = engine.unet.register_forward_hook(lambda module, args, output: output[:4])
        guidance.begin_pass(engine)
        ours = sample(p, engine, guidance.before_step, **options)
        guidance.end_batch()
        theirs = plain(engine, **options)
        handle.remove()
        cut.remove()
        assert hooks(engine) == 0
        assert is_same(ours[1:], theirs[1:])
        assert all(map(torch.equal, ours[0].cond, theirs[0].cond))
    assert len(p.comments) == 1 and "5 rows for 2 chunks of 2" in p.comments[0]
    assert p.extra_generation_params == {}


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("room", [9, 1])
@pytest.mark.parametrize("which", ["uncond", "cond"])
def test_another_extension_s_call_has_the_branch_of_its_prompt(which: str, pictures: int, room: int) -> None:
    """Self-attention guidance takes the uncond for a prompt there, perturbed attention has the prompt."""
    options = {"prompts": ["a dog", "a cat"][:pictures], "pictures": pictures, "room": room}
    found: list[Tensor] = []

    def again(params: Params, predict: Again) -> None:
        text = params.text_uncond if which == "uncond" else params.text_cond
        found.append(predict(text, params.x + 0.5))

    with host(used()) as engine:
        guided(engine, ON, **options, afterwards=again)
        ours, found = found, []
        plain(engine, **options, afterwards=again)
        strong, found = found, []
    weak(OMEGA, **options, afterwards=again)
    for our, full, lowered in zip(ours, strong, found, strict=True):
        if which == "cond":
            assert torch.equal(our, full)
        else:
            assert_close(our, lowered)
            assert not torch.allclose(our, full, rtol=1e-2)


@pytest.mark.parametrize(
    "room",
    [9, 1],
)
def test_a_prompt_that_is_empty_but_for_its_networks_keeps_its_own_branch(room: int) -> None:
    """A network without a text encoder's part: the prompt is then encoded as the null prompt is."""
    with host([(Network("dog"), network_file(10)[:4])]) as engine:
        ours, _ = guided(engine, ON, prompts=[""], room=room)
        theirs = plain(engine, prompts=[""], room=room)
    for our, their in zip(ours, theirs, strict=True):
        assert torch.equal(our.cond[0], their.cond[0])


def test_a_copy_of_our_patcher_keeps_working_and_is_idle_after_the_run() -> None:
    """Extensions behind ours clone the patcher again, which deep-copies its options."""
    with host(used()) as engine:
        p = Processing()
        guidance = start(p, ON | SKIPS)
        guidance.begin_pass(engine)
        copied = engine.forge_objects.unet.clone()
        (ours,), (theirs,) = (
            patcher.model_options["conditioning_modifiers"] for patcher in (engine.forge_objects.unet, copied)
        )
        assert ours is theirs, "the pass, and the model with it, was copied"
        engine.forge_objects.unet = copied
        evaluations = sample(p, engine, guidance.before_step)
        guidance.end_batch()
        assert [our.uncond is None for our in evaluations] == [True, True, False, False]
        after = sample(Processing(), engine, lambda params, engine: None)
        assert all(evaluation.uncond is not None for evaluation in after)


def test_null_prompts_are_kept_between_generations_until_something_changes() -> None:
    null_prompts = NullPrompts()
    networks = used()
    with host(networks) as engine:

        def encoded(**options: Any) -> int:
            before = engine.encoded.count("")
            guided(engine, ON | options, null_prompts=null_prompts)
            return engine.encoded.count("") - before

        assert [encoded(), encoded(), encoded(weak_ratio=0.5), encoded()] == [1, 0, 1, 0]
        networks[0][0].te_multiplier = 0.2
        activate(engine, networks)
        ours, _ = guided(engine, ON, null_prompts=null_prompts)
        assert is_same(ours, guided(engine, ON)[0])


def test_what_a_broken_run_left_is_cleaned() -> None:
    with host(used()) as engine:
        expected = plain(engine)
        start(Processing(), ON).begin_pass(engine)
        assert hooks(engine) > 0
        assert is_same(plain(engine), expected)  # no callback, as another run
        clean(engine, ForgePass)
        assert hooks(engine) == 0


def test_a_weighted_prompt_keeps_its_uncond_outside_the_interval_and_that_is_said() -> None:
    """Without an uncond the host would multiply the prediction itself with the weight."""
    options = {"prompts": ["a dog"], "pictures": 1, "strength": 0.5}
    with host(used()) as engine:
        ours, p = guided(engine, ON | {"start": 0.5, "outside": "None"}, **options)
        theirs = plain(engine, **options)
    assert [our.uncond is not None for our in ours] == [True] * 4
    assert torch.equal(ours[0].uncond, theirs[0].uncond)
    assert sum("weighted prompt" in comment for comment in p.comments) == 1
