"""Samplers and schedule types by the names WebUI users know them by, as diffusers schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lib_pg.cli.errors import UsageError

# The schedule type where none is asked for: the model's own configuration decides.
MODELS_OWN = ""
_AUTOMATIC = "Automatic"

_PLAIN = {"use_karras_sigmas": False, "use_exponential_sigmas": False}
# Schedule types, by what they change in a scheduler's configuration.
SCHEDULE_TYPES: Mapping[str, Mapping[str, Any]] = {
    "Uniform": _PLAIN,
    "Karras": {**_PLAIN, "use_karras_sigmas": True},
    "Exponential": {**_PLAIN, "use_exponential_sigmas": True},
    "SGM Uniform": {**_PLAIN, "timestep_spacing": "trailing"},
}
# What follows a sampler's name in older pictures, whether it can be used here or not; the longer come first.
_SUFFIXES = (
    "SGM Uniform", "Karras", "Polyexponential", "Exponential", "Uniform", "Align Your Steps", "KL Optimal",
    "Simple", "Normal", "Beta", "Turbo",
)  # fmt: skip
_SIGMAS = ("Uniform", "Karras", "Exponential")
_SPACING = ("Uniform", "SGM Uniform")


@dataclass(frozen=True)
class Sampler:
    """One sampler.

    Attributes:
        scheduler: the name of its class in diffusers.
        changes: what differs from the model's own scheduler configuration.
        schedule_types: those that its scheduler can follow.
        automatic: the one that WebUIs use where the user leaves it to them.
    """

    scheduler: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    schedule_types: tuple[str, ...] = tuple(SCHEDULE_TYPES)
    automatic: str = MODELS_OWN


SAMPLERS: Mapping[str, Sampler] = {
    "Euler": Sampler("EulerDiscreteScheduler"),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler", schedule_types=_SPACING),
    "Heun": Sampler("HeunDiscreteScheduler"),
    "DPM2": Sampler("KDPM2DiscreteScheduler", automatic="Karras"),
    "DPM++ 2M": Sampler(
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False},
        automatic="Karras",
    ),
    "DPM++ 2M SDE": Sampler(
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False},
        automatic="Exponential",
    ),
    "DPM++ 2S": Sampler(
        "DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++"}, schedule_types=_SIGMAS
    ),
    "DDIM": Sampler("DDIMScheduler", schedule_types=_SPACING),
    "PLMS": Sampler("PNDMScheduler", {"skip_prk_steps": True}, schedule_types=_SPACING),
    "UniPC": Sampler("UniPCMultistepScheduler"),
    "LCM": Sampler("LCMScheduler", schedule_types=()),
}


def split_sampler(name: str) -> tuple[str, str]:
    """Return sampler and schedule type of a name such as `DPM++ 2M Karras`, in this program's spelling.

    What is not known here stays as it is written.
    """
    name = " ".join(name.split())
    for suffix in _SUFFIXES:
        if name.casefold().endswith(f" {suffix}".casefold()):
            return _spelled(name[: -len(suffix) - 1], SAMPLERS), suffix
    return _spelled(name, SAMPLERS), MODELS_OWN


def schedule_type_for(sampler: str, name: str) -> str:
    """Return a schedule type as a sampler here calls it; `Automatic` is what WebUIs make of it."""
    name = _spelled(" ".join(name.replace("_", " ").split()), SCHEDULE_TYPES)
    if name.casefold() == _AUTOMATIC.casefold():
        return SAMPLERS[sampler].automatic
    return name


def check_sampler(sampler: str, schedule_type: str) -> None:
    """Check that there is a sampler, and that it can follow a schedule type.

    Raises:
        UsageError: there is none, or it cannot.
    """
    if sampler not in SAMPLERS:
        raise UsageError(
            f"sampler {sampler[:60]!r} is not known here; choose one with --sampler: {', '.join(SAMPLERS)}"
        )
    known = SAMPLERS[sampler].schedule_types
    if schedule_type != MODELS_OWN and schedule_type not in known:
        allowed = f"it can follow {', '.join(known)}" if known else "it has one schedule only"
        raise UsageError(f"sampler {sampler!r} cannot follow schedule type {schedule_type[:60]!r}; {allowed}")


def scheduler_for(sampler: str, schedule_type: str, steps: int, own: Any) -> Any:
    """Return the scheduler of a sampler, on the configuration of the model's own scheduler.

    Raises:
        UsageError: no such sampler, or it cannot sample this model in so many steps.
    """
    import diffusers

    check_sampler(sampler, schedule_type)
    chosen = SAMPLERS[sampler]
    changes = {**chosen.changes, **SCHEDULE_TYPES.get(schedule_type, {})}
    if sampler == "LCM":  # it picks its steps from a finer schedule, of 50 where nothing is said
        changes["original_inference_steps"] = max(50, steps)
    try:
        scheduler = getattr(diffusers, chosen.scheduler).from_config(own.config, **changes)
        _walk(deepcopy(scheduler), steps)
    except (ArithmeticError, AssertionError, ImportError, IndexError, NotImplementedError, RuntimeError,
            ValueError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(
            f"sampler {sampler!r} cannot make {steps} steps with this model's noise schedule ({reason}); "
            "change --steps or --sampler"
        ) from error
    return scheduler


def _walk(scheduler: Any, steps: int) -> None:
    """Take all steps on one number: schedulers fail late, or come to NaN, where they have too many steps."""
    import torch

    scheduler.set_timesteps(steps)
    value = torch.ones(1, 1, 1, 1)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(value, timestep)
        value = scheduler.step(torch.zeros_like(seen), timestep, value).prev_sample
    if not torch.isfinite(value).all():
        raise ArithmeticError("it comes to values that are no numbers")


def _spelled(name: str, known: Mapping[str, Any]) -> str:
    return next((each for each in known if each.casefold() == name.casefold()), name)
