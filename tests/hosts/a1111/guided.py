"""AUTOMATIC1111's stand-in with the extension as its script calls it."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from lib_pg.hosts.a1111.sampling_pass import A1111Pass
from lib_pg.hosts.webui.generation import WebuiGuidance
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.settings import Settings
from tests.hosts.a1111.stand_in import Model, Network, Processing, host, sample

OMEGA = 0.3
ON = {"enabled": True, "weak_ratio": OMEGA}


def start(
    p: Processing, settings: dict[str, Any], null_prompts: NullPrompts | None = None, **options: Any
) -> WebuiGuidance | None:
    options = {
        "null_prompts": null_prompts or NullPrompts(),
        "warn_on_page": lambda message: None,
        **options,
    }
    return WebuiGuidance.start(p, lambda: Settings.from_dict(settings), A1111Pass, **options)


def guided(
    model: Model,
    settings: dict[str, Any],
    p: Processing | None = None,
    ratios: str | None = None,
    weak: str | None = None,
    null_prompts: NullPrompts | None = None,
    chosen: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> tuple[list[Tensor], Processing]:
    """Run the host with the extension as its script calls it; `chosen` is what its settings page says."""
    p = p or Processing()
    guidance = start(p, settings, null_prompts, **chosen)
    assert guidance is not None
    named = {key: value for key, value in {"pg": ratios, "weak": weak}.items() if value is not None}
    names = {network.name for network in sys.modules["networks"].loaded_networks}
    mentions = [types.SimpleNamespace(positional=["dog", "1"], named=named)] if "dog" in names else []
    guidance.read_ratios({"lora": mentions})
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
        Network(n.name, n.te_multiplier * omega, n.unet_multiplier * omega, n.dyn_dim, kind=n.kind)
        for n in networks
    ]
    with host(lowered) as model:
        return plain(model, **(options | {"negative": ""}))


def dog(**options: Any) -> Network:
    return Network("dog", te_multiplier=0.9, unet_multiplier=0.8, **options)


def hooks(model: Model) -> int:
    unet = model.model.diffusion_model
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in vars(m)) for m in unet.modules()
    )
