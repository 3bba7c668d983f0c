"""The equivalences of the method on real diffusers pipelines, against explicitly interpolated weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor

from lib_pg.deltas.merge import add_networks
from lib_pg.guidance import guide, weak_ratio_at
from lib_pg.hosts.diffusers import guided, installed
from lib_pg.networks import Network
from tests.hosts.diffusers.unet_calls import Call, calls_of, null_prompt_of, weak_forward
from tests.pipelines import (
    NEGATIVE,
    Make,
    families,
    random_network,
    relative_error,
    sample,
    sd_pipeline,
    settings,
)


@families
@pytest.mark.parametrize("batch", [1, 3])
def test_omega_one_with_the_null_prompt_is_cfg_with_an_empty_negative_bit_for_bit(
    make: Make, batch: int
) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    with installed(networks):
        plain = sample(pipeline, batch=batch)
        with guided(pipeline, networks, settings(weak_ratio=1.0)) as run:
            ours = sample(pipeline, batch=batch, negative_prompt=NEGATIVE)
        other = sample(pipeline, batch=batch, negative_prompt=NEGATIVE)
    assert run.ran
    assert torch.equal(ours, plain)
    assert not torch.equal(other, plain)  # the negative prompt would have shown


@families
@pytest.mark.parametrize("omega", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mode", ["PG", "AG"])
@pytest.mark.parametrize("batch", [1, 3])
def test_weak_rows_equal_explicitly_interpolated_weights(
    make: Make, omega: float, mode: str, batch: int
) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    reference = _interpolated(make, omega)
    with (
        installed(networks),
        guided(pipeline, networks, settings(mode=mode, weak_ratio=omega)),
        calls_of(pipeline) as calls,
    ):
        sample(pipeline, batch=batch, negative_prompt=NEGATIVE)
    null = null_prompt_of(reference)
    for call in calls:
        weak = weak_forward(reference, call, slice(0, batch), null if mode == "PG" else None)
        assert relative_error(call.output[:batch], weak) < 1e-5
    assert calls


@families
def test_the_whole_run_is_the_formula_of_the_paper(make: Make) -> None:
    """Two models side by side, each with its own weights: D = D_w + s (D_ft - D_w)."""
    omega, scale = 0.4, 3.0
    pipeline, brute = make(), make()
    networks = [random_network(pipeline)]
    with installed(networks), guided(pipeline, networks, settings(weak_ratio=omega)):
        ours = sample(pipeline, guidance_scale=scale)

    weak_model = _interpolated(make, omega)
    null = null_prompt_of(weak_model)
    with installed([random_network(brute)]):
        forward = brute.unet.forward

        def both(latents: Tensor, timestep: Tensor, **inputs: Any) -> tuple[Tensor]:
            strong = forward(latents, timestep, **inputs)[0][1:]
            weak_inputs = Call((latents, timestep), inputs, strong)
            weak = weak_forward(weak_model, weak_inputs, slice(0, 1), null)
            guided_prediction = guide(weak, strong, scale)
            return (torch.cat([guided_prediction, guided_prediction]),)  # whatever the pipeline's scale

        brute.unet.forward = both
        explicit = sample(brute, guidance_scale=scale)
    assert relative_error(ours, explicit) < 1e-5


@families
def test_batch_of_three_equals_three_of_one(make: Make) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    with installed(networks), guided(pipeline, networks, settings(weak_ratio=0.2)):
        together = sample(pipeline, batch=3, seed=5)
        alone = torch.cat([sample(pipeline, seed=5 + index) for index in range(3)])
    assert relative_error(together, alone) < 1e-5


@families
def test_bfloat16_stays_within_the_rounding_of_a_merge(make: Make) -> None:
    omega = 0.3
    exact = _interpolated(make, omega)
    pipeline, remerged = make(torch.bfloat16), _interpolated(make, omega, torch.bfloat16)
    networks = [random_network(pipeline)]
    with (
        installed(networks),
        guided(pipeline, networks, settings(mode="AG", weak_ratio=omega)),
        calls_of(pipeline) as calls,
    ):
        sample(pipeline)
    call = calls[0]
    truth = weak_forward(exact, call, slice(0, 1), None)
    error = relative_error(call.output[:1], truth)
    assert error < 1.5 * relative_error(weak_forward(remerged, call, slice(0, 1), None), truth)
    assert error < 0.05


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerAncestralDiscreteScheduler,
        HeunDiscreteScheduler,
        KDPM2DiscreteScheduler,
        PNDMScheduler,
        UniPCMultistepScheduler,
    ],
)
def test_the_schedule_follows_noise_levels_with_every_scheduler(scheduler: Any) -> None:
    """omega depends on the noise level alone: both calls of a second-order step there have the same."""
    controls = {"schedule": "Linear", "weak_ratio": 0.9, "weak_ratio_end": 0.1}
    pipeline = sd_pipeline()
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    networks = [random_network(pipeline)]
    with installed(networks), guided(pipeline, networks, settings(**controls)), calls_of(pipeline) as calls:
        sample(pipeline, num_inference_steps=5)
    levels = list(dict.fromkeys(float(call.args[1]) for call in calls))
    assert levels == sorted(levels, reverse=True)
    for call in calls:
        step = levels.index(float(call.args[1]))
        omega = weak_ratio_at(step, len(levels), "Linear", 0.9, 0.1)
        reference = _interpolated(sd_pipeline, omega)
        weak = weak_forward(reference, call, slice(0, 1), null_prompt_of(reference))
        assert relative_error(call.output[:1], weak) < 1e-5


@families
def test_outside_the_interval_none_runs_half_the_rows_and_gives_the_prompts_prediction(make: Make) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    controls = {"start": 0.25, "end": 0.75, "outside": "None", "weak_ratio": 0.0}
    rows: list[int] = []
    first_layer = pipeline.unet.conv_in.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    with installed(networks), guided(pipeline, networks, settings(**controls)), calls_of(pipeline) as calls:
        sample(pipeline, batch=3, num_inference_steps=4)
    first_layer.remove()
    assert rows == [3, 6, 6, 3]
    for call in (calls[0], calls[3]):
        assert torch.equal(call.output[:3], call.output[3:])


def test_image_to_image_counts_the_steps_it_runs() -> None:
    """Half strength runs the last half of the noise levels: the schedule begins there and ends with them."""
    text_to_image = sd_pipeline()
    pipeline = StableDiffusionImg2ImgPipeline(**text_to_image.components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    networks = [random_network(pipeline)]
    controls = settings(schedule="Linear", weak_ratio=0.9, weak_ratio_end=0.1)
    with (
        installed(networks),
        guided(pipeline, networks, controls),
        calls_of(pipeline) as calls,
        torch.no_grad(),
    ):
        pipeline(
            "a sks dog", torch.rand(1, 3, 64, 64), strength=0.5, num_inference_steps=6, output_type="latent"
        )
    assert len(calls) == 3
    for call, omega in zip(calls, (0.9, 0.5, 0.1), strict=True):
        reference = _interpolated(sd_pipeline, omega)
        weak = weak_forward(reference, call, slice(0, 1), null_prompt_of(reference))
        assert relative_error(call.output[:1], weak) < 1e-5


def test_the_negative_prompt_can_be_the_weak_prompt() -> None:
    pipeline = sd_pipeline()
    networks = [random_network(pipeline)]
    controls = settings(weak_prompt="Negative", weak_ratio=0.5)
    with installed(networks), guided(pipeline, networks, controls), calls_of(pipeline) as calls:
        sample(pipeline, negative_prompt=NEGATIVE)
        negative = pipeline.encode_prompt(NEGATIVE, "cpu", 1, False)[0]
    reference = _interpolated(sd_pipeline, 0.5)
    weak = weak_forward(reference, calls[0], slice(0, 1), (negative, None))
    assert relative_error(calls[0].output[:1], weak) < 1e-5


def test_each_network_has_its_own_ratio() -> None:
    pipeline, reference = sd_pipeline(), sd_pipeline()
    networks = [random_network(pipeline, "a", 1, own_ratio=0.2), random_network(pipeline, "b", 2)]
    with (
        installed(networks),
        guided(pipeline, networks, settings(weak_ratio=0.6)),
        calls_of(pipeline) as calls,
    ):
        sample(pipeline)
    explicit = [random_network(reference, "a", 1), random_network(reference, "b", 2)]
    for network, omega in zip(explicit, (0.2, 0.6), strict=True):
        add_networks([*network.parts.values()], omega)
    weak = weak_forward(reference, calls[0], slice(0, 1), null_prompt_of(reference))
    assert relative_error(calls[0].output[:1], weak) < 1e-5


def test_a_long_prompt_gets_as_many_null_chunks() -> None:
    pipeline = sd_pipeline()
    networks = [random_network(pipeline)]
    embeds = torch.randn(1, 40, 24, generator=torch.Generator().manual_seed(3))
    with (
        installed(networks),
        guided(pipeline, networks, settings(weak_ratio=0.5)),
        calls_of(pipeline) as calls,
    ):
        sample(pipeline, prompt=None, prompt_embeds=embeds, negative_prompt_embeds=torch.zeros_like(embeds))
    reference = _interpolated(sd_pipeline, 0.5)
    chunk, _ = null_prompt_of(reference)
    long = torch.cat([chunk, chunk], dim=1)[:, :40]
    weak = weak_forward(reference, calls[0], slice(0, 1), (long, None))
    assert relative_error(calls[0].output[:1], weak) < 1e-5


def _interpolated(make: Make, omega: float, dtype: torch.dtype = torch.float32) -> Any:
    """Return a pipeline with theta_w written into its weights."""
    pipeline = make(dtype)
    network: Network = random_network(pipeline)
    add_networks([*network.parts.values()], omega)
    return pipeline
