"""The control for `base_checkpoint`: a list of the host's checkpoints."""

from __future__ import annotations

from typing import Any

from lib_pg.hosts.webui.checkpoints import listed_checkpoints, refresh_checkpoints
from lib_pg.page.components import elem_id, on_page_load, quiet
from lib_pg.settings import CONTROLS, NO_CHECKPOINT


def build_checkpoint(tab: str, value: str) -> Any:
    """Build the control and return the component whose value is the checkpoint's name."""
    import gradio as gr

    control = CONTROLS["base_checkpoint"]
    with gr.Row(elem_classes="pg-row pg-with-button"):
        picker = gr.Dropdown(
            _choices(value),
            value=value,
            allow_custom_value=True,  # a pasted one may be on another disk: it is kept, and said when it runs
            label=control.label,
            info=control.help,
            interactive=True,
            elem_id=elem_id(tab, "base_checkpoint"),
        )
        refresh = gr.Button("Refresh", size="sm", elem_id=elem_id(tab, "base_checkpoint_refresh"))
    on_page_load(_follow, [picker], [picker])
    refresh.click(_refresh, inputs=[picker], outputs=[picker], **quiet())
    return picker


def choices() -> list[str]:
    """Return what can be chosen."""
    return [NO_CHECKPOINT, *listed_checkpoints()]


def _follow(value: str | None) -> Any:
    import gradio as gr

    value = value or NO_CHECKPOINT
    return gr.update(choices=_choices(value), value=value)


def _refresh(value: str | None) -> Any:
    refresh_checkpoints()
    return _follow(value)


def _choices(value: str) -> list[str]:
    known = choices()
    return known if value in known else [*known, value]
