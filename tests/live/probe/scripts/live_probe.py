"""Faults and conditions on demand, and what they leave behind, for the live tests and benchmarks.

A script that breaks a generation, or makes it run under a condition, as its one argument names; a route
`/pg-live/state` that counts the hooks on the model and hashes its weights, and one, `/pg-live/preparation`,
that says how long the extension's preparation of the last passes took. The faults are in `FAULTS`, and
"callback"; the conditions are "little memory", "moved", "bfloat16", "timed" and "inner".

To use it, copy the folder `probe` into the host's `extensions` folder and restart. It is part of no release.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
import torch
from modules import script_callbacks, scripts, shared
from modules.processing import StableDiffusionProcessingImg2Img, process_images
from probe_faults import models_of, state_of

TITLE = "Live probe"
FAULTS = ("error", "memory", "interrupt", "skip", "ours")
_OF_OUTER = (
    "prompt",
    "negative_prompt",
    "steps",
    "width",
    "height",
    "cfg_scale",
    "sampler_name",
    "scheduler",
)
_AT_CALL = 3  # of the U-Net, so that some steps are done and some are not
_seconds: list[float] = []
_undoing: list[Callable[[], Any]] = []  # a generation that breaks off leaves it to the next one


def models() -> Iterator[torch.nn.Module]:
    return models_of(shared.sd_model)


def state() -> dict[str, Any]:
    """Return how many hooks are on the model, and a hash of its weights."""
    hooks, digest = state_of(models())
    forge = getattr(shared.sd_model, "forge_objects", None)
    modifiers = [] if forge is None else forge.unet.model_options.get("conditioning_modifiers", [])
    return {
        "hooks": len(hooks),  # the host may have its own, as with --medvram
        "ours": sum(getattr(hook, "is_personalization_guidance", False) for hook in hooks),
        "modifiers": len(modifiers),
        "weights": digest,
    }


def preparation() -> list[float]:
    """Return the seconds that the extension took before each pass of the last timed generation."""
    return list(_seconds)


class Script(scripts.Script):
    """Always visible; its one argument names the fault or condition, and nothing switches it off."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Textbox("", label="Fault", visible=False)]

    def before_process(self, p: Any, fault: str, *args: Any) -> None:
        _undo()
        if fault == "timed":
            _seconds.clear()
            from lib_pg.hosts.webui.generation import WebuiGuidance

            _replace(WebuiGuidance, "begin_pass", _timed(WebuiGuidance.begin_pass))

    def post_sample(self, p: Any, *args: Any, **given: Any) -> None:
        _undo()  # the conditions are for sampling: Forge's VAE divides by the free memory

    def postprocess_batch(self, p: Any, *args: Any, **given: Any) -> None:
        _undo()

    def postprocess_image(self, p: Any, picture: Any, fault: str, *args: Any) -> None:
        """Draw the finished picture anew in a generation of its own, as detailers do."""
        if fault != "inner" or getattr(p, "is_live_probes_own", False):
            return
        inner = StableDiffusionProcessingImg2Img(
            init_images=[picture.image],
            denoising_strength=0.5,
            seed=p.seeds[0],
            do_not_save_samples=True,
            do_not_save_grid=True,
            **{name: getattr(p, name) for name in _OF_OUTER if hasattr(p, name)},
        )
        inner.scripts_setup_complete = True  # the host's script for seeds would set another
        inner.scripts, inner.script_args = p.scripts, p.script_args
        inner.is_live_probes_own = True
        picture.image = process_images(inner).images[0]

    def process_before_every_sampling(self, p: Any, fault: str, **given: Any) -> None:
        p.live_probe_calls = 0
        unet = next(models())
        if fault == "little memory":
            _have_little_memory()
        elif fault == "bfloat16":
            _compute_in_bfloat16(unet)
        elif fault in (*FAULTS, "moved"):
            layer = next(m for m in unet.modules() if isinstance(m, torch.nn.Conv2d))

            def break_off(*args: Any) -> None:
                p.live_probe_calls += 1
                if p.live_probe_calls == _AT_CALL:
                    handle.remove()
                    _move(unet) if fault == "moved" else _break(fault)

            handle = layer.register_forward_pre_hook(break_off)
        p.live_probe_fault = fault


def _replace(owner: Any, name: str, value: Any) -> None:
    """Give a module or class another function until the generation ends."""
    _undoing.append(partial(setattr, owner, name, getattr(owner, name)))
    setattr(owner, name, value)


def _undo() -> None:
    while _undoing:
        _undoing.pop()()


def _timed(call: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            _seconds.append(time.perf_counter() - start)

    return timed


def _have_little_memory() -> None:
    """Have Forge and its relatives run the rows of a batch one by one; AUTOMATIC1111 does not ask."""
    names = ("backend.memory_management", "ldm_patched.modules.model_management")
    for memory in filter(None, map(sys.modules.get, names)):
        tell = memory.get_free_memory

        def free(device: Any = None, torch_free_too: bool = False, tell: Any = tell) -> Any:
            return tell(device, True) if torch_free_too else 0

        _replace(memory, "get_free_memory", free)


def _compute_in_bfloat16(unet: torch.nn.Module) -> None:
    """Run the U-Net as the hosts run theirs in half precision on a GPU: under autocast."""
    region = torch.autocast("cpu", torch.bfloat16)
    handles = (
        unet.register_forward_pre_hook(lambda *args: (region.__enter__(), None)[1]),
        unet.register_forward_hook(
            lambda module, args, output: (region.__exit__(None, None, None), output.float())[1]
        ),
    )
    _undoing.extend(handle.remove for handle in handles)


def _move(model: torch.nn.Module) -> None:
    """Give every weight other memory, as a move to another device and back does."""
    for weight in (*model.parameters(), *model.buffers()):
        weight.data = weight.data.clone()


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


def _add_routes(blocks: Any, app: Any) -> None:
    app.add_api_route("/pg-live/state", state)
    app.add_api_route("/pg-live/preparation", preparation)


script_callbacks.on_app_started(_add_routes)
