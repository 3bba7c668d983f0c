"""The control for `base_checkpoint`: a list of the host's checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib_pg.page.components import elem_id, on_page_load, quiet
from lib_pg.page.lists import Lists
from lib_pg.settings import CONTROLS, NO_CHECKPOINT


def build_checkpoint(tab: str, value: str, lists: Lists) -> Any:
    """Build the control and return the component whose value is the checkpoint's name."""
    import gradio as gr

    control, offer = CONTROLS["base_checkpoint"], _Offer(lists)
    with gr.Row(elem_classes="pg-row pg-with-button"):
        picker = gr.Dropdown(
            offer.choices(value),
            value=value,
            allow_custom_value=True,  # a pasted one may be on another disk: it is kept, and said when it runs
            label=control.label,
            info=control.help,
            interactive=True,
            elem_id=elem_id(tab, "base_checkpoint"),
        )
        refresh = gr.Button("Refresh", size="sm", elem_id=elem_id(tab, "base_checkpoint_refresh"))
    on_page_load(offer.follow, [picker], [picker])
    refresh.click(offer.refresh, inputs=[picker], outputs=[picker], **quiet())
    return picker


@dataclass(frozen=True)
class _Offer:
    """What the list offers."""

    lists: Lists

    def follow(self, value: str | None) -> Any:
        import gradio as gr

        value = value or NO_CHECKPOINT
        return gr.update(choices=self.choices(value), value=value)

    def refresh(self, value: str | None) -> Any:
        self.lists.refresh_checkpoints()
        return self.follow(value)

    def choices(self, value: str) -> list[str]:
        """Return what can be chosen, and what is although the host does not list it."""
        known = [NO_CHECKPOINT, *self.lists.checkpoints()]
        return known if value in known else [*known, value]
