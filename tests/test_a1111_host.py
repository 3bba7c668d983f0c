"""The AUTOMATIC1111 adapter against a stand-in of the host's loop."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.deltas import LowRank
from lib_pg.hosts.a1111 import A1111Pass
from lib_pg.hosts.null_prompts import NullPrompts
from lib_pg.hosts.webui import WebuiGuidance, clean
from lib_pg.settings import Settings
from tests.a1111_stand_in import Model, Network, Processing, host, merge, sample

OMEGA = 0.3
ON = {"enabled": True, "weak_ratio": OMEGA}


def start(
    p: Processing, settings: dict[str, Any], null_prompts: NullPrompts | None = None, **options: Any
) -> WebuiGuidance | None:
    options["null_prompts"] = null_prompts or NullPrompts()
    return WebuiGuidance.start(p, lambda: Settings.from_dict(settings), A1111Pass, **options)


def guided(
    model: Model,
    settings: dict[str, Any],
    p: Processing | None = None,
    ratios: str | None = None,
    **options: Any,
) -> tuple[list[Tensor], Processing]:
    """Run the host with the extension as its script calls it."""
    p = p or Processing()
    guidance = start(p, settings)
    assert guidance is not None
    named = {} if ratios is None else {"pg": ratios}
    guidance.read_ratios({"lora": [types.SimpleNamespace(positional=["dog", "1"], named=named)]})
    guidance.write_infotext()
    guidance.begin_pass(model)
    predictions = sample(p, model, lambda params: guidance.before_step(params, model), **options)
    guidance.end_batch()
    return predictions, p


def plain(model: Model, **options: Any) -> list[Tensor]:
    return sample(Processing(), model, lambda params: None, **options)


def weak(omega: float, networks: list[Network], **options: Any) -> list[Tensor]:
    """Return what rows with the null prompt are when all networks are merged at omega."""
    lowered = [
        Network(n.name, n.te_multiplier * omega, n.unet_multiplier * omega, n.dyn_dim) for n in networks
    ]
    with host(lowered) as model:
        return plain(model, **(options | {"negative": ""}))


def dog(**options: Any) -> Network:
    return Network("dog", te_multiplier=0.9, unet_multiplier=0.8, **options)


def hooks(model: Model) -> int:
    unet = model.model.diffusion_model
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


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


@pytest.mark.parametrize("kind", ["hooks", "merging"])
def test_the_text_encoder_is_at_omega_and_its_weights_are_back(kind: str) -> None:
    """Hooks do not reach every layer of a text encoder: there the host has to merge."""
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        if kind == "merging":
            network.modules["transformer_attention"] = type("NetworkModuleLora", (), {})()
        plain(model, **options)
        before = model.text_layer.weight.clone()
        ours, _ = guided(model, ON, **options)
        assert torch.equal(model.text_layer.weight, before)
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
    if together:
        assert rows == [pictures, pictures, 2 * pictures, 2 * pictures]


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


def test_a_refiners_model_is_guided_too() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        refiner = Model()
        merge(refiner, [network])
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.begin_pass(model)
        ours = sample(p, refiner, lambda params: guidance.before_step(params, refiner), **options)
        guidance.end_batch()
        direct, _ = guided(refiner, ON, **options)
        assert hooks(model) == hooks(refiner) == 0
    assert all(map(torch.equal, ours, direct))


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


def test_after_a_run_no_hook_is_left_and_weights_are_bit_identical() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        before = [weight.clone() for weight in model.model.diffusion_model.state_dict().values()]
        guided(model, ON, **options)
        assert hooks(model) == 0
        assert all(map(torch.equal, before, model.model.diffusion_model.state_dict().values()))
        assert network.te_multiplier == 0.9


def test_what_a_broken_run_left_does_nothing_and_is_cleaned() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.begin_pass(model)
        expected = sample(Processing(), model, lambda params: None, **options)  # no callback, as another run
        clean(model, A1111Pass)
        assert hooks(model) == 0
        assert all(map(torch.equal, plain(model, **options), expected))


def test_a_fault_of_ours_leaves_plain_cfg_and_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:

        def fail(prompts: list[str]) -> Tensor:
            if prompts == [""]:
                raise RuntimeError("no memory")
            return Model.get_learned_conditioning(model, prompts)

        monkeypatch.setattr(model, "get_learned_conditioning", fail)
        ours, p = guided(model, ON, **options)
        monkeypatch.undo()
        assert all(map(torch.equal, ours, plain(model, **options)))
        assert hooks(model) == 0
    assert not any(key.startswith("PG") for key in p.extra_generation_params)
    assert any("no memory" in comment for comment in p.comments)


def test_switched_off_or_wrong_settings_start_nothing() -> None:
    p = Processing()
    assert start(p, {"enabled": False}) is None
    assert not p.comments
    assert start(p, {"enabled": True, "weak_ratio": 3}) is None
    assert "weak_ratio" in p.comments[0]


def test_a_kind_of_network_that_cannot_be_weakened_is_said() -> None:
    network = dog()
    with host([network]) as model:
        network.modules["diffusion_model_conv"] = type("NetworkModuleLokr", (), {})()
        _, p = guided(model, ON, prompts=["a dog"], pictures=1)
    assert any("1 layers of kind Lokr" in comment for comment in p.comments)


def test_a_base_checkpoint_is_said_to_be_ignored() -> None:
    p = Processing()
    assert start(p, ON | {"base_checkpoint": "model"}) is not None
    assert "not supported yet" in p.comments[0]


def test_infotext_can_be_switched_off() -> None:
    with host([dog()]) as model:
        p = Processing()
        guidance = start(p, ON, infotext=False)
        assert guidance is not None
        guidance.write_infotext()
        guidance.begin_pass(model)
        guidance.end_batch()
    assert p.extra_generation_params == {}


def test_nothing_of_the_last_cell_of_a_grid_stays_in_the_infotext() -> None:
    p = Processing()
    p.extra_generation_params = {"PG mode": "AG", "PG start": "0.5", "Other": "kept"}
    assert start(p, {"enabled": False}) is None
    assert p.extra_generation_params == {"Other": "kept"}


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


def test_without_the_lora_extension_the_null_prompt_is_used_and_said() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([]) as model:
        del model.network_layer_mapping
        ours, p = guided(model, ON, **options)
        expected = plain(model, **options, negative="")
    assert all(map(torch.equal, ours, expected))
    assert any("no network to weaken" in comment for comment in p.comments)


def test_cfg_scale_one_is_said_and_not_claimed() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        p = Processing()
        p.cfg_scale = 1.0
        ours, _ = guided(model, ON, p, **options)
        expected = plain(model, **options)
    assert all(map(torch.equal, ours, expected))
    assert sum("CFG scale 1" in comment for comment in p.comments) == 1
    assert p.extra_generation_params == {}


@pytest.mark.parametrize("fault", [RuntimeError("broken"), KeyboardInterrupt()], ids=repr)
def test_an_error_in_the_sampler_s_loop_leaves_nothing(fault: BaseException) -> None:
    """The host calls no script method then: the end of its loop has to be enough."""
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        expected = plain(model, **options)
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.begin_pass(model)
        calls: list[int] = []

        def step(params: Any) -> None:
            guidance.before_step(params, model)
            calls.append(1)
            if len(calls) == 2:
                raise fault

        with pytest.raises(type(fault)):
            sample(p, model, step, **options)
        assert hooks(model) == 0 and p.comments == []
        assert all(map(torch.equal, plain(model, **options), expected))


def test_a_host_that_leaves_uncond_out_of_every_step_is_told_of() -> None:
    with host([dog()]) as model:
        _, p = guided(model, ON, prompts=["a dog"], pictures=1, skip_uncond=True)
    assert sum("left the unconditional branch out" in comment for comment in p.comments) == 1


def test_a_fault_in_a_layer_s_hook_leaves_a_finished_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        theirs = plain(model, **options)
        original, calls = LowRank.add_to, iter(range(1000))

        def fail(*args: Any) -> None:
            if next(calls) >= 4:
                raise RuntimeError("no memory")
            original(*args)

        monkeypatch.setattr(LowRank, "add_to", fail)
        ours, p = guided(model, ON, **options)
        assert torch.equal(ours[-1], theirs[-1])
        assert hooks(model) == 0
    assert p.extra_generation_params == {}
    assert len(p.comments) == 1 and "no memory" in p.comments[0]


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
        merge(refiner, [network])
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
