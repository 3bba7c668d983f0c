"""The page: what a WebUI's tab has of its own, in its elem_ids, around the extension's own parts."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_pg import TITLE
from lib_pg.cli.generate.job import BATCH_MAX, Job
from lib_pg.cli.samplers import MODELS_OWN, SAMPLERS, SCHEDULE_TYPES
from lib_pg.cli.serve.events import Events
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.cli.serve.turns import Turns
from lib_pg.cli.serve.wanted import COUNT_MAX, FIELDS, MODELS_SIZE, RANDOM_SEED
from lib_pg.page import accordion, compare
from lib_pg.page.components import Components, on_page_load, quiet
from lib_pg.page.lists import Lists
from lib_pg.page.live_line import LiveLine
from lib_pg.page.presets import PresetStore

_TAB = "txt2img"
_PICTURES = [".png", ".jpg", ".jpeg", ".webp"]


def build(shelf: Shelf, turns: Turns, server: argparse.Namespace) -> gr.Blocks:
    """Return the page, its queue bounded.

    Args:
        server: the options of `serve`.
    """
    lists = Lists(
        networks=lambda: list(shelf.networks),
        checkpoints=lambda: list(shelf.checkpoints),
        refresh_networks=shelf.look,
        refresh_checkpoints=shelf.look,
    )
    live = LiveLine(_TAB, shelf.host_files)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        fields: dict[str, Any] = {}
        with gr.Row():
            with gr.Column(scale=3):
                _fields(fields, shelf)
                presets = PresetStore(server.presets)
                parts = accordion.build(_TAB, presets, {"enabled": True}, hires=False, lists=lists)
            with gr.Column(scale=2):
                draw = gr.Button("Generate", variant="primary", elem_id="pg_generate")
                cancel = gr.Button("Cancel", elem_id="pg_cancel")
                with gr.Accordion("Compare", open=False, elem_id="pg_compare_part"):
                    choices = compare.build(_TAB)
                    beside = gr.Button("Compare", elem_id="pg_compare")
                gallery = gr.Gallery(
                    label="Pictures",
                    format="png",
                    columns=2,
                    object_fit="contain",
                    interactive=False,
                    elem_id=f"{_TAB}_gallery",
                )
                said = gr.HTML(elem_id="pg_said")
                parameters = gr.Textbox(
                    label="Parameters of the chosen picture",
                    interactive=False,
                    lines=3,
                    elem_id="pg_parameters",
                )
                dropped = gr.File(
                    label="Settings from a picture",
                    file_types=_PICTURES,
                    type="filepath",
                    elem_id="pg_dropped",
                )
        for component in (*fields.values(), gallery):
            live.after_component(component, component.elem_id)
        live.built(parts)
        _connect(
            Events(shelf, turns, server),
            fields,
            parts,
            _Parts(draw, beside, choices, cancel, gallery, said, parameters, dropped),
        )
    return blocks.queue(max_size=server.waiting, default_concurrency_limit=1)


@dataclass(frozen=True)
class _Parts:
    draw: Any
    beside: Any
    choices: list[Any]
    cancel: Any
    gallery: Any
    said: Any
    parameters: Any
    dropped: Any


def _fields(made: dict[str, Any], shelf: Shelf) -> None:
    """Build the fields that are not the accordion's, in the order of `FIELDS`."""
    names = list(shelf.checkpoints)
    made["checkpoint"] = gr.Dropdown(
        names, value=names[0] if names else None, label="Checkpoint", elem_id="pg_checkpoint"
    )
    made["prompt"] = gr.Textbox(
        label="Prompt", lines=3, placeholder="a cat on a chair <lora:name:1>", elem_id=f"{_TAB}_prompt"
    )
    made["negative"] = gr.Textbox(label="Negative prompt", lines=2, elem_id=f"{_TAB}_neg_prompt")
    with gr.Row():
        made["sampler"] = gr.Dropdown(
            list(SAMPLERS), value=Job.sampler, label="Sampling method", elem_id=f"{_TAB}_sampling"
        )
        own = ("the model's own", MODELS_OWN)
        made["schedule_type"] = gr.Dropdown(
            [own, "Automatic", *SCHEDULE_TYPES], value=MODELS_OWN, label="Schedule type",
            elem_id=f"{_TAB}_scheduler",
        )  # fmt: skip
    with gr.Row():
        made["steps"] = gr.Slider(1, 150, Job.steps, step=1, label="Sampling steps", elem_id=f"{_TAB}_steps")
        made["scale"] = gr.Slider(
            1.0, 30.0, Job.scale, step=0.1, label="CFG scale", elem_id=f"{_TAB}_cfg_scale"
        )
    with gr.Row():
        for name in ("width", "height"):
            made[name] = gr.Slider(
                MODELS_SIZE, 2048, MODELS_SIZE, step=8, label=name.title(), info="0: the model's own",
                elem_id=f"{_TAB}_{name}",
            )  # fmt: skip
    with gr.Row():
        made["batch"] = gr.Slider(1, BATCH_MAX, 1, step=1, label="Batch size", elem_id=f"{_TAB}_batch_size")
        made["count"] = gr.Slider(1, COUNT_MAX, 1, step=1, label="Batch count", elem_id=f"{_TAB}_batch_count")
        made["seed"] = gr.Number(
            RANDOM_SEED, precision=0, label="Seed", info=f"{RANDOM_SEED}: another one each time",
            elem_id=f"{_TAB}_seed",
        )  # fmt: skip


def _connect(page: Events, fields: dict[str, Any], parts: Components, own: _Parts) -> None:
    inputs = [*(fields[name] for name in FIELDS), *parts.controls]
    private = {"api_visibility": "private"}
    visitor = gr.State(lambda: secrets.token_hex(16))
    shown = {"outputs": [own.gallery, own.said], "show_progress_on": own.gallery, **private}
    # One visitor at a time, whichever button was pressed.
    turn = {"concurrency_id": "pictures", "concurrency_limit": 1}
    drawing = own.draw.click(page.draw, inputs=[visitor, *inputs], **shown, **turn)
    comparing = own.beside.click(page.compare, inputs=[visitor, *own.choices, *inputs], **shown, **turn)
    own.cancel.click(
        page.cancel, inputs=[visitor], outputs=[own.said], cancels=[drawing, comparing], **quiet()
    )
    own.dropped.upload(
        page.read, inputs=[own.dropped], outputs=[*inputs, *own.choices, own.said], queue=False, **private
    )
    on_page_load(page.look, [fields["checkpoint"]], [fields["checkpoint"]])
    own.gallery.select(page.parameters, inputs=[own.gallery], outputs=[own.parameters], **quiet())
