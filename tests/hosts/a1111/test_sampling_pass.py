"""The AUTOMATIC1111 adapter against a stand-in of the host's loop."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.hosts.webui.null_prompts import NullPrompts
from tests.hosts.a1111.guided import OMEGA, ON, dog, guided, hooks, plain, start, weak
from tests.hosts.a1111.stand_in import Model, Network, Processing, checkpoint, host, sample


@pytest.mark.parametrize("pictures", [1, 3])
@pytest.mark.parametrize("together", [True, False], ids=["one call", "two calls"])
@pytest.mark.parametrize("omega", [0.0, OMEGA, 1.0])
def test_uncond_rows_equal_networks_merged_at_omega(pictures: int, together: bool, omega: float) -> None:
    options = {"prompts": ["a dog"] * pictures, "pictures": pictures, "batch_cond_uncond": together}
    with host([dog(), Network("style", 0.5, 0.5, dyn_dim=1)]) as model:
        ours, p = guided(model, ON | {"weak_ratio": omega}, **options)
        cfg = plain(model, **options)
    reference = weak(omega, [dog(), Network("style", 0.5, 0.5, dyn_dim=1)], **options)
    for our, host_own, other in zip(ours, cfg, reference, strict=True):
        torch.testing.assert_close(our[pictures:], other[pictures:], rtol=1e-5, atol=1e-6)
        assert torch.equal(our[:pictures], host_own[:pictures])
    assert p.extra_generation_params["PG weak ratio"] == f"{omega:g}"


def test_the_text_encoder_is_at_omega_and_its_weights_are_back() -> None:
    """The fused attention of OpenCLIP, which is no linear layer, too."""
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        plain(model, **options)
        weights = [model.text_layer.weight, *model.attention.parameters()]
        before = [weight.clone() for weight in weights]
        ours, _ = guided(model, ON, **options)
        assert all(map(torch.equal, weights, before))
        now = [model.text_layer.weight, *model.attention.parameters()]
        assert all(here is there for here, there in zip(now, weights, strict=True))
        assert not model.text_layer._forward_hooks
    for our, other in zip(ours, weak(OMEGA, [dog()], **options), strict=True):
        torch.testing.assert_close(our[1:], other[1:], rtol=1e-5, atol=1e-6)


def test_the_prompt_may_give_a_network_its_own_ratio() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        own, _ = guided(model, ON | {"weak_ratio": 0.9}, ratios="0.3", **options)
        same, _ = guided(model, ON, **options)
        wrong, p = guided(model, ON, ratios="7", **options)
    assert all(map(torch.equal, own, same))
    assert all(map(torch.equal, wrong, same))
    assert any("pg=7" in comment for comment in p.comments)


def test_prompts_with_and_keep_all_their_rows() -> None:
    options = {"prompts": ["a dog", "a beach"], "pictures": 1}
    with host([dog()]) as model:
        ours, _ = guided(model, ON, **options)
        cfg = plain(model, **options)
    reference = weak(OMEGA, [dog()], **options)
    for our, host_own, other in zip(ours, cfg, reference, strict=True):
        assert torch.equal(our[:2], host_own[:2])
        torch.testing.assert_close(our[2:], other[2:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"mode": "AG"}, {"start": 1.0, "outside": "None"}], ids=["AG", "outside None"]
)
def test_what_cannot_be_done_with_and_is_plain_cfg_and_said(settings: dict[str, Any]) -> None:
    options = {"prompts": ["a dog", "a beach"], "pictures": 1}
    with host([dog()]) as model:
        ours, p = guided(model, ON | settings, **options)
        cfg = plain(model, **options)
    assert all(map(torch.equal, ours, cfg))
    assert sum("AND" in comment for comment in p.comments) == 1
    assert not any(key.startswith("PG") for key in p.extra_generation_params)


def test_autoguidance_repeats_the_prompt() -> None:
    options = {"prompts": ["a dog", "a cat"], "pictures": 2}
    with host([dog()]) as model:
        ours, _ = guided(model, ON | {"mode": "AG", "weak_ratio": 1.0}, **options)
        rows = [torch.cat([call[:2], call[:2]]) for call in ours]
        xs = plain(model, **options, negative="a dog")
    assert not any(map(torch.equal, ours, xs))
    assert len(rows) == len(ours)


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("together", [True, False], ids=["one call", "two calls"])
def test_outside_none_gives_weak_rows_the_prompts_prediction(pictures: int, together: bool) -> None:
    options = {"prompts": ["a dog", "a cat"][:pictures], "pictures": pictures, "batch_cond_uncond": together}
    with host([dog()]) as model:
        ours, _ = guided(model, ON | {"start": 0.5, "outside": "None"}, **options)
        rows = model.model.diffusion_model.rows
    for call in ours[:2]:
        assert torch.equal(call[:pictures], call[pictures:])
    assert not torch.equal(ours[2][:pictures], ours[2][pictures:])
    both = [2 * pictures] if together else [pictures, pictures]
    assert rows == [pictures, pictures, *both, *both]


@pytest.mark.parametrize("calls_a_step", [1, 2])
def test_the_interval_counts_steps_and_not_calls(calls_a_step: int) -> None:
    options = {"prompts": ["a dog"], "pictures": 1, "calls_a_step": calls_a_step}
    with host([dog()]) as model:
        ours, _ = guided(model, ON | {"start": 0.25, "end": 0.5}, **options)
        cfg = plain(model, **options)
    changed = [not torch.equal(our, other) for our, other in zip(ours, cfg, strict=True)]
    steps = [any(changed[at : at + calls_a_step]) for at in range(0, len(changed), calls_a_step)]
    assert steps == [False, True, False, False]


def test_the_hosts_skipping_of_uncond_is_left_alone() -> None:
    options = {"prompts": ["a dog"], "pictures": 1, "skip_uncond": True}
    with host([dog()]) as model:
        ours, p = guided(model, ON, **options)
        assert all(map(torch.equal, ours, plain(model, **options)))
    assert p.extra_generation_params == {}


def test_controlnets_mark_is_carried_over() -> None:
    with host([dog()]) as model:
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.begin_pass(model)
        mark = torch.full((1, 1, 6), 1024.0)
        params = types.SimpleNamespace(
            x=torch.randn(2, 6),
            text_cond=torch.cat([mark, torch.randn(1, 6, 6)], 1),
            text_uncond=torch.cat([-mark, torch.randn(1, 6, 6)], 1),
            total_sampling_steps=4,
        )
        guidance.before_step(params, model)
        guidance.end_batch()
    assert params.text_uncond.shape == (1, 7, 6)
    assert torch.equal(params.text_uncond[:, :1], -mark)
    assert torch.equal(params.text_uncond[:, 1:4], params.text_uncond[:, 4:])


@pytest.mark.parametrize(("replaced", "length"), [(False, 6), (True, 3)])
def test_the_null_prompt_is_as_long_as_an_extension_s_attention_expects(replaced: bool, length: int) -> None:
    """One call for both branches is faster; Regional Prompter counts the calls that the host would make."""
    with host([dog()]) as model:
        attention = torch.nn.Module()
        attention.to_k = torch.nn.Identity()
        if replaced:
            attention.forward = lambda x: x
        model.model.diffusion_model.attention = attention
        guidance = start(Processing(), ON)
        assert guidance is not None
        guidance.begin_pass(model)
        params = types.SimpleNamespace(
            x=torch.randn(2, 6),
            text_cond=torch.randn(1, 6, 6),
            text_uncond=torch.randn(1, 3, 6),
            total_sampling_steps=4,
        )
        guidance.before_step(params, model)
        guidance.end_batch()
    assert params.text_uncond.shape == (1, length, 6)


def test_a_refiners_model_is_guided_too() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        refiner = Model()
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.begin_pass(model)
        ours = sample(p, refiner, lambda params: guidance.before_step(params, refiner), **options)
        guidance.end_batch()
        direct, _ = guided(refiner, ON, **options)
        assert hooks(model) == hooks(refiner) == 0
    assert all(map(torch.equal, ours, direct))


def test_a_refiner_loaded_into_the_same_model_gets_a_null_prompt_of_its_own() -> None:
    """The host writes other weights into its model where the refiner is of the same kind."""
    options = {"prompts": ["a dog"], "pictures": 1}

    def refine(model: Model) -> None:
        layer = model.text_layer
        layer.weight.copy_(2 * getattr(layer, "network_weights_backup", layer.weight))
        layer.network_current_names, layer.network_weights_backup = (), None
        model.sd_checkpoint_info = checkpoint("models/refiner.safetensors")

    def sampled(negative: str, *settings: dict[str, Any]) -> list[Tensor]:
        with host([dog()]) as model:
            p, calls = Processing(), []
            guidance = start(p, *settings) if settings else None
            if guidance:
                guidance.begin_pass(model)

            def step(params: Any) -> None:
                calls.append(1)
                if len(calls) == 3:
                    refine(model)
                    params.text_cond = model.get_learned_conditioning(["a dog"])
                    params.text_uncond = model.get_learned_conditioning([negative])
                if guidance:
                    guidance.before_step(params, model)

            return sample(p, model, step, negative=negative, **options)

    assert all(map(torch.equal, sampled("ugly", ON | {"weak_ratio": 1.0}), sampled("")))


@pytest.mark.parametrize("hires", ["Same", "Off", "Own"])
def test_hires_is_the_same_off_or_its_own(hires: str) -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        p = Processing()
        p.is_hr_pass = True
        settings = ON | {"hires": hires, "hires_weak_ratio": 0.9}
        ours, _ = guided(model, settings, p, **options)
        expected = {
            "Same": lambda: guided(model, ON, **options)[0],
            "Off": lambda: plain(model, **options),
            "Own": lambda: guided(model, ON | {"weak_ratio": 0.9}, **options)[0],
        }[hires]()
    assert all(map(torch.equal, ours, expected))


def test_the_second_pass_has_the_ratios_of_its_own_prompt() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        p = Processing()
        p.is_hr_pass = True
        p.hr_extra_network_data = {
            "lora": [types.SimpleNamespace(positional=["dog", "1"], named={"pg": "0.9"})]
        }
        ours, _ = guided(model, ON, p, ratios="0.1", **options)
        expected, _ = guided(model, ON | {"weak_ratio": 0.9}, **options)
    assert all(map(torch.equal, ours, expected))


def test_the_null_prompt_of_the_second_pass_has_its_size() -> None:
    """SDXL encodes the size with the prompt; the stand-in writes one other than 64 x 64 into it."""
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        p = Processing()
        p.is_hr_pass = True
        p.hr_upscale_to_x, p.hr_upscale_to_y = 96, 128
        ours, _ = guided(model, ON | {"weak_ratio": 1.0}, p, **options)
        expected = plain(model, **options, negative=" 96x128")
    assert all(map(torch.equal, ours, expected))


def test_null_prompts_are_kept_between_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    null_prompts, encoded = NullPrompts(), []
    with host([dog()]) as model:
        encode = model.encode
        monkeypatch.setattr(model, "encode", lambda prompt: (encoded.append(prompt), encode(prompt))[1])
        counts = []
        for omega in (0.3, 0.3, 0.6, 0.3):
            before = encoded.count("")
            p = Processing()
            guidance = start(p, ON | {"weak_ratio": omega}, null_prompts)
            assert guidance is not None
            guidance.begin_pass(model)
            sample(p, model, lambda params, run=guidance: run.before_step(params, model), **options)
            guidance.end_batch()
            counts.append(encoded.count("") - before)
    assert counts == [1, 0, 1, 0]


def test_steps_are_counted_on_across_a_refiner() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        refiner = Model()
        p = Processing()
        guidance = start(p, ON | {"start": 0.75})
        assert guidance is not None
        guidance.begin_pass(model)
        changed: list[bool] = []

        def step(params: Any) -> None:
            before = params.text_uncond
            guidance.before_step(params, model if len(changed) < 2 else refiner)
            changed.append(params.text_uncond is not before)

        sample(p, model, step, **options)
        guidance.end_batch()
        assert hooks(model) == hooks(refiner) == 0
    assert changed == [False, False, False, True]


def test_the_prompt_may_give_a_network_a_strength_of_the_weak_branch_s_own() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([Network("dog")]) as model:  # at strength 1
        own, _ = guided(model, ON | {"weak_ratio": 0.9}, weak=repr(OMEGA), **options)
        same, _ = guided(model, ON, **options)
    for ours, theirs in zip(own, same, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
