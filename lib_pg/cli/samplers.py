"""Samplers by the names WebUI users know them by, as diffusers schedulers."""

from __future__ import annotations

from typing import Any

from lib_pg.cli.errors import UsageError

# name: (scheduler class, what differs from the model's own scheduler configuration)
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "DPM++ 2M": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False},
    ),
    "DPM++ 2M Karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
    ),
    "DPM++ 2M SDE": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False},
    ),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++"}),
    "DDIM": ("DDIMScheduler", {}),
    "PLMS": ("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "LCM": ("LCMScheduler", {}),
}


def scheduler_for(name: str, own: Any) -> Any:
    """Return the scheduler of a sampler, on the configuration of the model's own scheduler.

    Raises:
        UsageError: no such sampler, or it cannot sample this model.
    """
    import diffusers

    if name not in SAMPLERS:
        raise UsageError(f"sampler {name!r} is unknown; choose one of: {', '.join(SAMPLERS)}")
    class_name, changes = SAMPLERS[name]
    try:
        return getattr(diffusers, class_name).from_config(own.config, **changes)
    except (ImportError, NotImplementedError, ValueError) as error:
        raise UsageError(f"sampler {name!r} cannot be used with this model: {error}") from error
