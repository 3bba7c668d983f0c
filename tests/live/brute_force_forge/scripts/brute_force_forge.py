"""The weak branch by brute force in Forge and its relatives, for the live tests.

Every call of the U-Net is cut into its strong and its weak rows. Before the weak ones run, the host itself
merges the networks anew at omega times their strength, and as before behind them. That is slow and right:
what the extension does without touching a weight has to give the same pictures. Rows that read the null
prompt as a prompt's, as those of self-attention guidance's second call, are weak too.

To use it, copy the folder `brute_force_forge` into the host's `extensions` folder and restart. It is part of
no release: it leaves weights behind where a generation breaks off.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr
import torch
from modules import script_callbacks, scripts, shared
from modules.prompt_parser import SdConditioning

TITLE = "Brute force weak pass"


def lowered(patcher: Any, ratio: float) -> Any:
    """Return a clone of a patcher with all its networks at `ratio` times their strength."""
    clone = patcher.clone()
    if hasattr(patcher, "lora_patches"):
        clone.lora_patches = {
            (file, strength * ratio, *rest): {
                key: [[patch[0] * ratio, *patch[1:]] for patch in all_] for key, all_ in patches.items()
            }
            for (file, strength, *rest), patches in patcher.lora_patches.items()
        }
    else:
        clone.patches = {
            key: [(patch[0] * ratio, *patch[1:]) for patch in all_] for key, all_ in patcher.patches.items()
        }
        clone.patches_uuid = uuid.uuid4()  # reForge's mark of patches that it has to apply anew
    return clone


@contextmanager
def merged(patcher: Any, ratio: float) -> Iterator[None]:
    """Have the host write the weights of a lowered clone for the time of the block."""
    weak = lowered(patcher, ratio)
    if hasattr(patcher, "lora_patches"):
        weak.refresh_loras()
        yield
        patcher.refresh_loras()
        return
    from ldm_patched.modules import model_management

    # The host has loaded this patcher or an earlier clone of it; only that one knows the original weights.
    loaded = [item.model for item in model_management.current_loaded_models]
    (real,) = [item for item in loaded if item.model is patcher.model]
    device = patcher.load_device
    real.unpatch_model(device)
    weak.patch_model(device)
    yield
    weak.unpatch_model(device)
    real.patch_model(device)


class WeakPass:
    """One pass of sampling: its null prompt, and its wrapper of the U-Net."""

    def __init__(self, p: Any, ratio: float) -> None:
        self.ratio = ratio
        self.model = shared.sd_model
        second = getattr(p, "is_hr_pass", False)  # SDXL's prompts know the size of the picture
        width, height = (p.hr_upscale_to_x, p.hr_upscale_to_y) if second else (p.width, p.height)
        prompt = SdConditioning([""], is_negative_prompt=True, width=width, height=height)
        prompt.distilled_cfg_scale = getattr(p, "distilled_cfg_scale", None)
        strong = self.model.forge_objects.clip
        self.model.forge_objects.clip = strong.clone()
        self.model.forge_objects.clip.patcher = lowered(strong.patcher, ratio)
        self.null = self.model.get_learned_conditioning(prompt)
        self.model.forge_objects.clip = strong
        self.unet = self.model.forge_objects.unet.model.diffusion_model
        self.forward = self.unet.forward
        self.unet.forward = self.cut

    def step(self, params: Any) -> None:
        rows = self.rows = len(params.x)
        if isinstance(self.null, dict):
            params.text_uncond = type(params.text_uncond)(
                {key: value.repeat(rows, *[1] * (value.ndim - 1)) for key, value in self.null.items()}
            )
        else:
            params.text_uncond = self.null.repeat(rows, 1, 1)

    def cut(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        branches = kwargs["transformer_options"]["cond_or_uncond"]
        chunk = self.rows  # extensions that cut the picture into tiles repeat the whole pattern
        output: torch.Tensor | None = None
        drawn = torch.get_rng_state()
        for branch in sorted(set(branches)):
            torch.set_rng_state(drawn)  # token merging draws once for all rows of a call
            rows = [row for row in range(len(x)) if branches[row // chunk % len(branches)] == branch]
            its_args = _rows_of((x, *args), rows, len(x))
            its_kwargs = _rows_of(kwargs, rows, len(x))
            all_, none = list(range(len(rows))), []
            its_kwargs["transformer_options"] |= {
                "cond_or_uncond": [branch] * (len(rows) // chunk),
                "cond_indices": none if branch else all_,
                "uncond_indices": all_ if branch else none,
            }
            if branch == 1 or self.reads_null(its_kwargs["context"]):
                with merged(self.model.forge_objects.unet, self.ratio):
                    part = self.forward(*its_args, **its_kwargs)
            else:
                part = self.forward(*its_args, **its_kwargs)
            output = part.new_empty(len(x), *part.shape[1:]) if output is None else output
            output[rows] = part
        assert output is not None
        return output

    def reads_null(self, context: torch.Tensor) -> bool:
        null = self.null["crossattn"] if isinstance(self.null, dict) else self.null
        return context.shape[1:] == null.shape[1:] and bool((context == null.to(context)).all())

    def end(self) -> None:
        del self.unet.forward


def _rows_of(value: Any, rows: Sequence[int], total: int) -> Any:
    if isinstance(value, torch.Tensor):
        return value[list(rows)] if value.ndim and len(value) == total else value
    if isinstance(value, Mapping):
        return {key: _rows_of(item, rows, total) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_rows_of(item, rows, total) for item in value)
    return value


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
