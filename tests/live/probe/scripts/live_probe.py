"""Faults on demand, and what they leave behind, for the live tests.

A script that breaks a generation in the way its one argument names, and a route `/pg-live/state` that counts
the hooks on the model and hashes its weights.

To use it, copy the folder `probe` into the host's `extensions` folder and restart. It is part of no release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import gradio as gr
import torch
from modules import script_callbacks, scripts, shared

TITLE = "Live probe"
_AT_CALL = 3  # of the U-Net, so that some steps are done and some are not


def models() -> Iterator[torch.nn.Module]:
    """Yield the U-Net and the text encoders of the host's model."""
    forge = getattr(shared.sd_model, "forge_objects", None)
    if forge is None:
        yield shared.sd_model.model.diffusion_model
        yield (
            shared.sd_model.cond_stage_model
            if hasattr(shared.sd_model, "cond_stage_model")
            else shared.sd_model.conditioner
        )
    else:
        yield forge.unet.model.diffusion_model
        yield forge.clip.patcher.model


def state() -> dict[str, Any]:
    """Return how many hooks are on the model, and a hash of its weights."""
    digest, hooks = hashlib.sha256(), 0
    for model in models():
        hooks += sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
        for name, weight in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    forge = getattr(shared.sd_model, "forge_objects", None)
    modifiers = [] if forge is None else forge.unet.model_options.get("conditioning_modifiers", [])
    return {"hooks": hooks, "modifiers": len(modifiers), "weights": digest.hexdigest()}


class Script(scripts.Script):
    """Always visible; its one argument names the fault, and nothing switches it off."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Textbox("", label="Fault", visible=False)]

    def process_before_every_sampling(self, p: Any, fault: str, **given: Any) -> None:
        p.live_probe_calls = 0
        if fault not in ("", "callback"):
            unet = next(models())
            layer = next(m for m in unet.modules() if isinstance(m, torch.nn.Conv2d))

            def break_off(*args: Any) -> None:
                p.live_probe_calls += 1
                if p.live_probe_calls == _AT_CALL:
                    handle.remove()
                    _break(fault)

            handle = layer.register_forward_pre_hook(break_off)
        p.live_probe_fault = fault


def _break(fault: str) -> None:
    if fault == "error":
        raise RuntimeError("asked for by the live tests")
    if fault == "memory":
        raise torch.OutOfMemoryError("asked for by the live tests")
    if fault == "interrupt":
        shared.state.interrupt()
    elif fault == "skip":
        shared.state.skip()
    elif fault == "ours":
        from lib_pg.deltas.low_rank import LowRank

        right = LowRank.add_to

        def wrong(*args: Any) -> None:
            LowRank.add_to = right
            raise RuntimeError("asked for by the live tests")

        LowRank.add_to = wrong


def on_cfg_denoiser(params: Any) -> None:
    if getattr(params.denoiser.p, "live_probe_fault", "") == "callback":
        raise RuntimeError("asked for by the live tests")


script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
script_callbacks.on_app_started(lambda blocks, app: app.add_api_route("/pg-live/state", state))
