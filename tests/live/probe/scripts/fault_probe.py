"""Raises what the fault harness asks for, at a callback, in a layer or within the extension; `tests.faults`.

Its one argument names the fault, as `probe_faults.py` says. `/pg-live/calls` counts the extension's calls in
the last generation with a fault, `/pg-live/options` are the host's options, `/pg-live/caches` what the
extension keeps between generations.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import script_callbacks, scripts, sd_models, shared
from probe_faults import Fault, models_of

TITLE = "Fault probe"
_OURS = "Personalization Guidance"
_last: list[Fault] = []


def _current() -> Fault:
    return _last[-1] if _last else Fault("")


class Script(scripts.Script):
    """Always visible; a generation within a generation goes on with the outer one's fault."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Textbox("", label="Fault", visible=False)]

    def before_process(self, p: Any, fault: str, *args: Any) -> None:
        if getattr(p, "is_live_probes_own", False):
            return
        _current().end()
        _last[:] = [Fault(fault)]
        _current().watch_ours()
        _current().in_callback("before_process")

    def process(self, p: Any, *args: Any) -> None:
        _current().in_callback("process")

    def before_process_batch(self, p: Any, *args: Any, **given: Any) -> None:
        _current().in_callback("before_process_batch")

    def after_extra_networks_activate(self, p: Any, *args: Any, **given: Any) -> None:
        _current().in_callback("after_extra_networks_activate")

    def process_batch(self, p: Any, *args: Any, **given: Any) -> None:
        _current().in_callback("process_batch")

    def process_before_every_sampling(self, p: Any, *args: Any, **given: Any) -> None:
        unet = next(models_of(shared.sd_model))
        _current().watch_model(unet, shared.state.interrupt, shared.state.skip)
        _current().in_callback("process_before_every_sampling")

    def postprocess_batch(self, p: Any, *args: Any, **given: Any) -> None:
        _current().in_callback("postprocess_batch")

    def postprocess_image(self, p: Any, *args: Any) -> None:
        _current().in_callback("postprocess_image")

    def postprocess(self, p: Any, *args: Any) -> None:
        if not getattr(p, "is_live_probes_own", False):
            _current().end()
        _current().in_callback("postprocess")


def on_cfg_denoiser(params: Any) -> None:
    _current().in_callback("cfg_denoiser")


def calls() -> dict[str, int]:
    """Return how often each function of the extension was called in the last generation."""
    return dict(_current().counts)


def options() -> dict[str, str]:
    return {str(name): repr(value) for name, value in shared.opts.data.items()}


def caches() -> dict[str, int]:
    """Return how much the extension keeps: null prompts and headers by tab, bytes of weak weights."""
    found = {"null prompts": 0, "headers": 0, "bytes of weak weights": 0}
    for runner in (scripts.scripts_txt2img, scripts.scripts_img2img):
        for script in runner.alwayson_scripts:
            if script.title() == _OURS:
                found["null prompts"] = max(found["null prompts"], len(script.null_prompts._prompts))
                found["headers"] = max(found["headers"], len(script.live._files._known))
    # AUTOMATIC1111 can keep further checkpoints in memory.
    beside = getattr(sd_models.model_data, "loaded_sd_models", [])
    for model in {id(each): each for each in (shared.sd_model, *beside)}.values():
        kept = getattr(model, "personalization_guidance_base", None)
        if kept is not None:
            found["bytes of weak weights"] += sum(each.nbytes for each in kept.base.kept.values())
    return found


def _add_routes(blocks: Any, app: Any) -> None:
    app.add_api_route("/pg-live/calls", calls)
    app.add_api_route("/pg-live/options", options)
    app.add_api_route("/pg-live/caches", caches)


script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
script_callbacks.on_app_started(_add_routes)
