"""The control for `networks`: the text that counts, and a list to pick its names from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib_pg.page.components import elem_id, on_page_load, quiet
from lib_pg.page.lists import Lists
from lib_pg.settings import CONTROLS, Settings, SettingsError


def build_networks(tab: str, value: str, lists: Lists) -> Any:
    """Build the control and return the component whose value is the text with commas.

    That component is hidden; the list follows it when an image or a preset sets it.
    """
    import gradio as gr

    control, names, offer = CONTROLS["networks"], to_names(value), _Offer(lists)
    text = gr.Textbox(value, label=control.label, visible=False, elem_id=elem_id(tab, "networks"))
    with gr.Row(elem_classes="pg-row pg-with-button"):
        picker = gr.Dropdown(
            offer.choices(names),
            value=names,
            multiselect=True,
            label=control.label,
            info="Those to weaken; with none chosen, all but accelerators.",
            interactive=True,
            elem_id=elem_id(tab, "networks_picker"),
        )
        refresh = gr.Button("Refresh", size="sm", elem_id=elem_id(tab, "networks_refresh"))
    picker.do_not_save_to_config = True  # the text is what counts
    picker.input(to_text, inputs=[picker], outputs=[text], **quiet())
    on_page_load(offer.follow, [text], [picker])
    text.change(offer.follow, inputs=[text], outputs=[picker], **quiet())
    refresh.click(offer.refresh, inputs=[text], outputs=[picker], **quiet())
    return text


def to_text(names: Sequence[str] | None) -> str:
    """Return picked names as the text of the setting."""
    return ", ".join(name.strip() for name in names or () if name.strip())


def to_names(text: str) -> list[str]:
    """Return the names in the text of the setting; none where it is not usable."""
    try:
        return list(Settings(networks=text).network_names)
    except SettingsError:
        return []


@dataclass(frozen=True)
class _Offer:
    """What the list offers."""

    lists: Lists

    def follow(self, text: str) -> Any:
        import gradio as gr

        names = to_names(text)
        return gr.update(choices=self.choices(names), value=names)

    def refresh(self, text: str) -> Any:
        self.lists.refresh_networks()
        return self.follow(text)

    def choices(self, names: Sequence[str]) -> list[str]:
        """Return what can be picked: what the host knows, and names that are set although it does not."""
        known = self.lists.networks()
        return [*known, *(name for name in names if name not in known)]
