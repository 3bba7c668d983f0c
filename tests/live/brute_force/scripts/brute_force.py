"""The weak branch by brute force, for the live tests: a host script that has the host merge anew.

Before every weak call of the U-Net the networks' multipliers are lowered, so that the host itself writes
other weights, and raised again behind it. That is slow and right: what the extension does without touching a
weight has to give the same pictures.

To use it, copy the folder `brute_force` into the `extensions` folder of AUTOMATIC1111 and restart. It is part
of no release: it leaves weights behind where a generation breaks off.
It switches the setting `batch_cond_uncond` off, so that every call of the U-Net is either strong or weak.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gradio as gr
import torch
from modules import script_callbacks, scripts, shared
from modules.prompt_parser import SdConditioning

TITLE = "Brute force weak pass"


class Lowered:
    """Networks at omega times their strength, while one part of the model runs."""

    def __init__(self, networks: Sequence[Any], part: str, ratio: float) -> None:
        self.networks = networks
        self.part = f"{part}_multiplier"
        self.ratio = ratio

    def __enter__(self) -> None:
        self.before = [getattr(network, self.part) for network in self.networks]
        for network, strength in zip(self.networks, self.before, strict=True):
            setattr(network, self.part, strength * self.ratio)

    def __exit__(self, *error: object) -> None:
        for network, strength in zip(self.networks, self.before, strict=True):
            setattr(network, self.part, strength)


class WeakPass:
    """One pass of sampling: its null prompt and its hooks on the U-Net."""

    def __init__(self, p: Any, ratio: float) -> None:
        networks = sys.modules["networks"].loaded_networks
        second = getattr(p, "is_hr_pass", False)  # SDXL's prompts know the size of the picture
        width, height = (p.hr_upscale_to_x, p.hr_upscale_to_y) if second else (p.width, p.height)
        with Lowered(networks, "te", ratio):
            prompt = SdConditioning([""], is_negative_prompt=True, width=width, height=height)
            self.null = shared.sd_model.get_learned_conditioning(prompt)
        self.lowered = Lowered(networks, "unet", ratio)
        self.weak = False
        # Strong rows and weak rows of the step that the host has not called for yet; what another extension
        # calls for beyond them is not lowered.
        self.rows_left = self.weak_left = 0
        # Here, because an extension may have set it for this generation (Regional Prompter does).
        self.batched = shared.opts.data.get("batch_cond_uncond", True)
        shared.opts.data["batch_cond_uncond"] = False
        unet = shared.sd_model.model.diffusion_model
        self.handles = [unet.register_forward_pre_hook(self.before), unet.register_forward_hook(self.after)]

    def step(self, params: Any) -> None:
        old, null = params.text_uncond, self.null
        self.rows_left, self.weak_left = params.text_cond.shape[0], old.shape[0]
        text = null["crossattn"] if isinstance(null, dict) else null
        own = old["crossattn"] if isinstance(null, dict) else old
        marks = own[:, : own.shape[1] % text.shape[1]]  # ControlNet puts a token in front
        text = text.repeat(old.shape[0], params.text_cond.shape[1] // text.shape[1], 1)
        text = torch.cat([marks, text], dim=1)
        if isinstance(null, dict):
            vector = null["vector"].repeat(old.shape[0], 1)
            text = type(old)({"crossattn": text, "vector": vector})
        params.text_uncond = text

    def before(self, unet: Any, args: tuple[Any, ...]) -> None:
        rows = len(args[0])
        self.weak = self.rows_left == 0 and self.weak_left > 0
        if self.weak:
            self.weak_left -= rows
            self.lowered.__enter__()
        elif rows > self.rows_left > 0:
            raise RuntimeError("strong and weak rows in one call: switch batch_cond_uncond off")
        else:
            self.rows_left = max(self.rows_left - rows, 0)

    def after(self, unet: Any, args: tuple[Any, ...], output: Any) -> None:
        if self.weak:
            self.lowered.__exit__()

    def end(self) -> None:
        shared.opts.data["batch_cond_uncond"] = self.batched
        while self.handles:
            self.handles.pop().remove()


class Script(scripts.Script):
    """Always visible; its one argument is omega, and less than 0 switches it off."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Number(-1, label="Omega", visible=False)]

    def process_before_every_sampling(self, p: Any, ratio: float, **given: Any) -> None:
        _end(p)
        if ratio is not None and ratio >= 0:
            p.brute_force = WeakPass(p, ratio)

    def postprocess_batch(self, p: Any, *args: Any, **given: Any) -> None:
        _end(p)


def _end(p: Any) -> None:
    if weak_pass := getattr(p, "brute_force", None):
        weak_pass.end()
        p.brute_force = None


def on_cfg_denoiser(params: Any) -> None:
    if weak_pass := getattr(params.denoiser.p, "brute_force", None):
        weak_pass.step(params)


script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
