"""What AUTOMATIC1111's user is told, and what is left when a generation ends in whatever way."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.hosts.a1111.sampling_pass import A1111Pass
from lib_pg.hosts.webui.generation import clean
from lib_pg.run import GuidedRun
from lib_pg.weak_branch.stack import Stack
from tests.hosts.a1111.guided import ON, dog, guided, hooks, plain, start
from tests.hosts.a1111.lora_extension import NetworkModule
from tests.hosts.a1111.stand_in import WIDTH, Model, Network, Processing, host, sample


def test_after_a_run_no_hook_is_left_and_weights_are_bit_identical() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        plain(model, **options)  # the host merges at the first call
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


def test_a_fault_in_mid_run_is_not_said_to_leave_plain_cfg(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    calls: list[int] = []
    enter = GuidedRun.enter_unet

    def enter_twice(self: Any, rows: int, *args: Any, **given: Any) -> Any:
        calls.append(rows)
        if len(calls) == 3:
            raise RuntimeError("broken")
        return enter(self, rows, *args, **given)

    with host([dog()]) as model:
        whole, _ = guided(model, ON, **options)
        expected = plain(model, **options)
        monkeypatch.setattr(GuidedRun, "enter_unet", enter_twice)
        ours, p = guided(model, ON, **options)
    assert all(map(torch.equal, ours[:2], whole[:2]))
    assert all(map(torch.equal, ours[3:], expected[3:]))
    (said,) = [comment for comment in p.comments if "fault" in comment]
    assert "guided until then in step 3, and made with plain CFG from the next one on" in said
    assert not any(key.startswith("PG") for key in p.extra_generation_params)


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


def test_wrong_settings_are_told_everywhere_and_leave_the_host_alone() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([dog()]) as model:
        warnings: list[str] = []
        p = Processing()
        guidance = start(p, {"enabled": True, "weak_ratio": 3}, warn_on_page=warnings.append)
        assert guidance is not None
        guidance.write_infotext()
        guidance.begin_pass(model)
        ours = sample(p, model, lambda params: guidance.before_step(params, model), **options)
        guidance.end_batch()
        assert all(map(torch.equal, ours, plain(model, **options)))
    assert p.extra_generation_params == {}
    assert len(p.comments) == 1 and "weak_ratio: got 3" in p.comments[0]
    assert warnings == p.comments


def test_the_api_s_caller_gets_what_the_user_was_told() -> None:
    p = Processing()
    with host([dog()]) as model:
        guidance = start(p, ON | {"base_checkpoint": "model"})
        assert guidance is not None
        guidance.begin_pass(model)
    result = types.SimpleNamespace(extra_generation_params=p.extra_generation_params)
    guidance.end(result)
    (told,) = result.extra_generation_params["Personalization Guidance"]
    assert "base checkpoint 'model' is none of the host's" in told
    assert p.extra_generation_params == {}, "a grid's other cells share these"


def test_a_checkpoint_that_edits_pictures_is_left_alone_and_said() -> None:
    """InstructPix2Pix has a third row a picture: without the text, with the picture."""
    with host([dog()]) as model:
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.write_infotext()
        guidance.begin_pass(model)
        uncond = torch.randn(1, 3, 6)
        params = types.SimpleNamespace(
            x=torch.randn(3, 6), text_cond=torch.randn(1, 3, 6), text_uncond=uncond, total_sampling_steps=4
        )
        guidance.before_step(params, model)
        guidance.end_batch()
    assert params.text_uncond is uncond
    assert p.extra_generation_params == {}
    assert "edits pictures" in p.comments[0]


def test_a_network_of_which_the_host_can_merge_nothing_is_said() -> None:
    network = dog()
    with host([network]) as model:
        network.modules.clear()
        for key, layer in model.network_layer_mapping.items():
            network.modules[key] = NetworkModule(network, key, layer, ())
        _, p = guided(model, ON, prompts=["a dog"], pictures=1)
    assert any("nothing of dog can be weakened" in comment for comment in p.comments)


def test_layers_of_another_shape_are_left_out_as_the_host_does() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    network = dog()
    with host([network]) as model:
        network.modules["diffusion_model_conv"].down_model = torch.nn.Linear(2 * WIDTH, 2, bias=False)
        ours, p = guided(model, ON, **options)
        assert p.comments == []
        assert "PG mode" in p.extra_generation_params
        assert not torch.equal(ours[0], plain(model, **options)[0])


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


def test_without_the_lora_extension_the_host_is_left_alone_and_it_is_said() -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host([]) as model:
        del model.network_layer_mapping
        ours, p = guided(model, ON, **options)
        expected = plain(model, **options)
    assert all(map(torch.equal, ours, expected))
    assert any("no network to weaken" in comment for comment in p.comments)


@pytest.mark.parametrize(
    ("settings", "networks"),
    [
        (ON, []),
        (ON, [Network("dog", 0.0, 0.0)]),
        ({**ON, "networks": "cat"}, [dog()]),
    ],
    ids=["none", "at strength 0", "not named"],
)
def test_a_tick_left_on_costs_no_negative_prompt_and_claims_nothing(
    settings: dict[str, Any], networks: list[Network]
) -> None:
    options = {"prompts": ["a dog"], "pictures": 1}
    with host(networks) as model:
        ours, p = guided(model, settings, **options)
        expected = plain(model, **options)
    assert all(map(torch.equal, ours, expected))
    assert p.extra_generation_params == {}


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
        original, calls = Stack.add_to, iter(range(1000))

        def fail(*args: Any) -> None:
            if next(calls) >= 2:
                raise RuntimeError("no memory")
            original(*args)

        monkeypatch.setattr(Stack, "add_to", fail)
        ours, p = guided(model, ON, **options)
        assert torch.equal(ours[-1], theirs[-1])
        assert hooks(model) == 0
    assert p.extra_generation_params == {}
    assert len(p.comments) == 1 and "no memory" in p.comments[0]
