"""Every sampler over its whole range of steps: a picture's worth of numbers, or one line."""

from __future__ import annotations

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler

from lib_pg.cli.errors import UsageError
from lib_pg.cli.samplers import (
    SAMPLERS,
    check_sampler,
    schedule_type_for,
    scheduler_for,
    split_sampler,
)

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
# As SD 1.5, SDXL and the bundled model configure theirs.
MODELS = {
    "SD 1.5": PNDMScheduler(
        **_BETAS, skip_prk_steps=True, set_alpha_to_one=False, timestep_spacing="leading"
    ),
    "SDXL": EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading"),
    "bundled": DPMSolverMultistepScheduler(
        **_BETAS, timestep_spacing="trailing", prediction_type="v_prediction"
    ),
}
# How many fail in diffusers itself, with an error or, worse, without: a picture of NaN.
IMPOSSIBLE = {
    "DPM++ 2M": (999, 1000),
    "DPM++ 2M SDE": (999, 1000),
    "UniPC": (999, 1000),
    "DDIM": (1000,),
    "PLMS": (1000,),
}


def _end(sampler: str, steps: int, own: object, schedule_type: str = "") -> torch.Tensor:
    scheduler = scheduler_for(sampler, schedule_type, steps, own)
    scheduler.set_timesteps(steps)
    value = torch.ones(1, 4, 1, 1) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(value, timestep)
        value = scheduler.step(torch.zeros_like(seen), timestep, value).prev_sample
    return value


@pytest.mark.parametrize("steps", [1, 2, 51, 150, 999, 1000])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_number_of_steps_works_or_is_refused(sampler: str, steps: int) -> None:
    own = MODELS["SD 1.5"]
    if steps in IMPOSSIBLE.get(sampler, ()):
        with pytest.raises(UsageError, match=f"cannot make {steps} steps with this model"):
            scheduler_for(sampler, "", steps, own)
    else:
        assert torch.isfinite(_end(sampler, steps, own)).all()


@pytest.mark.parametrize("model", ["SDXL", "bundled"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_take_the_configuration_of_other_models(sampler: str, model: str) -> None:
    for steps in (1, 2, 51):
        assert torch.isfinite(_end(sampler, steps, MODELS[model])).all()


@pytest.mark.parametrize(
    ("sampler", "kind"), [(name, kind) for name, each in SAMPLERS.items() for kind in each.schedule_types]
)
def test_a_schedule_type_that_is_offered_is_followed(sampler: str, kind: str) -> None:
    own = MODELS["SD 1.5"]
    scheduler, plain = scheduler_for(sampler, kind, 8, own), scheduler_for(sampler, "Uniform", 8, own)
    for each in (scheduler, plain):
        each.set_timesteps(8)
    same = torch.equal(scheduler.timesteps.double(), plain.timesteps.double())
    assert same == (kind == "Uniform")


def test_a_schedule_type_that_cannot_be_followed_is_refused() -> None:
    for sampler, kind in (("Euler a", "Karras"), ("LCM", "Uniform"), ("Euler", "Beta")):
        with pytest.raises(UsageError, match=f"'{sampler}' cannot follow schedule type '{kind}'"):
            check_sampler(sampler, kind)


@pytest.mark.parametrize(
    ("written", "sampler", "kind"),
    [
        ("DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("dpm++ 2m  sde exponential", "DPM++ 2M SDE", "Exponential"),
        ("DPM++ SDE Karras", "DPM++ SDE", "Karras"),
        ("Euler A", "Euler a", ""),
        ("DPM++ 2M SGM Uniform", "DPM++ 2M", "SGM Uniform"),
        ("DDIM", "DDIM", ""),
        ("Karras", "Karras", ""),
    ],
)
def test_names_of_webuis(written: str, sampler: str, kind: str) -> None:
    assert split_sampler(written) == (sampler, kind)


def test_automatic_is_what_webuis_make_of_it() -> None:
    chosen = {name: schedule_type_for(name, "Automatic") for name in SAMPLERS}
    assert {name: kind for name, kind in chosen.items() if kind} == {
        "DPM2": "Karras",
        "DPM++ 2M": "Karras",
        "DPM++ 2M SDE": "Exponential",
    }
    assert schedule_type_for("Euler", "sgm_uniform") == "SGM Uniform"
