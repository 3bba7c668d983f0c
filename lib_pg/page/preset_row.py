"""The row of presets in the accordion: choose, save, delete."""

from __future__ import annotations

from typing import Any

from lib_pg.page.components import Components, elem_id, is_gradio_3, on_page_load, quiet
from lib_pg.page.forecast import as_html
from lib_pg.page.presets import PresetError, PresetStore
from lib_pg.settings import CONTROLS, Settings, SettingsError

_NOT_SET = ("enabled",)  # the tick belongs to the moment


def build_presets(components: Components, store: PresetStore) -> None:
    """Build the row and connect it with the other controls."""
    import gradio as gr

    tab = components.tab
    with gr.Row(elem_classes="pg-row pg-with-button"):
        chosen = gr.Dropdown(
            store.names(),
            label="Preset",
            info="Sets every control but the tick.",
            interactive=True,
            elem_id=elem_id(tab, "preset"),
        )
        name = gr.Textbox(
            label="Save as",
            info="A name for the current values.",
            max_lines=1,
            interactive=True,
            elem_id=elem_id(tab, "preset_name"),
        )
        save = gr.Button("Save", size="sm", elem_id=elem_id(tab, "preset_save"))
        delete = gr.Button("Delete", size="sm", elem_id=elem_id(tab, "preset_delete"))
    message = gr.HTML(elem_id=elem_id(tab, "preset_message"))
    for part in (chosen, name):
        part.do_not_save_to_config = True
    targets = [components[control] for control in CONTROLS if control not in _NOT_SET]
    row = _Row(store)
    on_page_load(row.refresh, [], [chosen])
    if is_gradio_3():  # later ones would filter the open list by the chosen name
        chosen.focus(row.refresh, outputs=[chosen], **quiet())
    chosen.input(row.load, inputs=[chosen], outputs=[*targets, message], **quiet())
    save.click(row.save, inputs=[name, *components.controls], outputs=[chosen, message], **quiet())
    delete.click(row.delete, inputs=[chosen], outputs=[chosen, message], **quiet())


class _Row:
    """What the row's events do, in terms of gradio updates."""

    def __init__(self, store: PresetStore) -> None:
        self._store = store

    def refresh(self) -> Any:
        """Offer what there is now: another tab or page may have saved or deleted one."""
        import gradio as gr

        return gr.update(choices=self._store.names())

    def load(self, name: str | None) -> list[Any]:
        """Set the controls to a preset."""
        import gradio as gr

        names = [control for control in CONTROLS if control not in _NOT_SET]
        try:
            settings = self._store.get(name or "")
        except PresetError as error:
            return [*(gr.update() for _ in names), as_html([str(error)])]
        return [*(gr.update(value=getattr(settings, control)) for control in names), ""]

    def save(self, name: str, *values: Any) -> list[Any]:
        """Keep the controls' values under a name."""
        import gradio as gr

        try:
            kept = self._store.save(name, Settings.from_list(list(values)))
        except (PresetError, SettingsError) as error:
            return [gr.update(), as_html([str(error)])]
        return [gr.update(choices=self._store.names(), value=kept), as_html([f"Saved as {kept}."])]

    def delete(self, name: str | None) -> list[Any]:
        """Forget the chosen preset."""
        import gradio as gr

        try:
            self._store.delete(name or "")
        except PresetError as error:
            return [gr.update(), as_html([str(error)])]
        return [gr.update(choices=self._store.names(), value=None), as_html([f"Deleted {name}."])]
