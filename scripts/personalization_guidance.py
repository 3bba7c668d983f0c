"""Personalization Guidance in AUTOMATIC1111 and Forge: glue between script methods and `lib_pg`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules import script_callbacks, scripts, shared

# Reload UI runs this file again but keeps packages: after an update old code would mix with new.
for _name in [name for name in sys.modules if name.partition(".")[0] == "lib_pg"]:
    del sys.modules[_name]

from lib_pg import TITLE, __version__
from lib_pg.hosts.detect import UnsupportedHost, WebuiHost, find_host
from lib_pg.hosts.webui.base_checkpoint import forget_unused
from lib_pg.hosts.webui.generation import WebuiGuidance, clean
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.page import accordion, axes, paste, settings_page
from lib_pg.page.live_line import LiveLine
from lib_pg.page.page_warning import warn_on_page
from lib_pg.page.presets import PresetStore
from lib_pg.settings import Settings, check_switch

ROOT = Path(__file__).resolve().parent.parent


def _host() -> WebuiHost | None:
    try:
        host = find_host()
    except UnsupportedHost as error:
        print(f"[{TITLE}] {error}")
        return None
    print(f"[{TITLE}] {__version__} running in {host}")
    return host


HOST = _host()
PRESETS = PresetStore(ROOT / "presets")


class Script(scripts.Script):
    """The always-visible script of one tab; what belongs to one generation hangs on its `p`."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        if HOST is None:
            return False
        self.null_prompts = NullPrompts()
        self.live = LiveLine(_tab(is_img2img))
        return scripts.AlwaysVisible

    def after_component(self, component: Any, **given: Any) -> None:
        self.live.after_component(component, given.get("elem_id"))

    def ui(self, is_img2img: bool) -> list[Any]:
        options = settings_page.read_options()
        parts = accordion.build(
            _tab(is_img2img),
            PRESETS,
            {"weak_ratio": options.default_weak_ratio, "mode": options.default_mode},
            hires=not is_img2img,
        )
        self.live.built(parts)
        self.infotext_fields = paste.infotext_fields(parts)
        self.paste_field_names = paste.paste_field_names()
        return list(parts.controls)

    def process(self, p: Any, *args: Any) -> None:
        clean(shared.sd_model, HOST.passes)
        options = settings_page.read_options()
        p.personalization_guidance = WebuiGuidance.start(
            p,
            lambda: _settings(p, args),
            HOST.passes,
            warn_on_page,
            axes.cell_of(p),
            null_prompts=self.null_prompts,
            infotext=options.write_infotext,
            details=options.console == "Details",
            rank=options.weak_memory,
            fast=options.fast,
        )
        # Switched off, nothing of ours takes memory.
        forget_unused(shared.sd_model, p.personalization_guidance is not None)

    def after_extra_networks_activate(self, p: Any, *args: Any, **given: Any) -> None:
        if guidance := _guidance(p):
            guidance.read_ratios(given["extra_network_data"])

    def process_batch(self, p: Any, *args: Any, **given: Any) -> None:
        if guidance := _guidance(p):
            guidance.write_infotext()

    def process_before_every_sampling(self, p: Any, *args: Any, **given: Any) -> None:
        if guidance := _guidance(p):
            guidance.begin_pass(shared.sd_model)

    def postprocess_batch(self, p: Any, *args: Any, **given: Any) -> None:
        if guidance := _guidance(p):
            guidance.end_batch()

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        if guidance := _guidance(p):
            guidance.end(processed)


def on_cfg_denoiser(params: Any) -> None:
    if guidance := _guidance(params.denoiser.p):
        guidance.before_step(params, shared.sd_model)


def _guidance(p: Any) -> WebuiGuidance | None:
    return getattr(p, "personalization_guidance", None)


def _settings(p: Any, args: Sequence[Any]) -> Settings:
    """Return what the accordion or the API asks for, with the values of a grid's cell in their place."""
    chosen, overrides = Settings.from_args(args).to_dict(), axes.overrides_of(p)
    if not overrides:
        check_switch(args)
    return Settings.from_dict(axes.with_overrides(chosen, overrides))


def _tab(is_img2img: bool) -> str:
    return "img2img" if is_img2img else "txt2img"


if HOST is not None:
    script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
    script_callbacks.on_ui_settings(settings_page.register_options)
    script_callbacks.on_before_ui(axes.register_axes)
