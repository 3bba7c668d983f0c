"""The rows of presets in the accordion: choose and delete, save."""

from __future__ import annotations

from typing import Any

from lib_pg.page.components import Components, debounced, elem_id, is_gradio_3, on_page_load, quiet
from lib_pg.page.forecast import as_html
from lib_pg.page.presets import PresetError, PresetStore
from lib_pg.presets import ABOUT, BUILT_IN
from lib_pg.settings import CONTROLS, Settings, SettingsError

_NOT_SET = ("enabled",)  # the tick belongs to the moment
_SET = tuple(control for control in CONTROLS if control not in _NOT_SET)


def build_presets(components: Components, store: PresetStore) -> None:
    """Build the rows and connect them with the other controls."""
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
        delete = gr.Button("Delete", size="sm", elem_id=elem_id(tab, "preset_delete"))
    with gr.Row(elem_classes="pg-row pg-with-button"):
        name = gr.Textbox(
            label="Save as",
            info="A name for the current values.",
            max_lines=1,
            interactive=True,
            elem_id=elem_id(tab, "preset_name"),
        )
        save = gr.Button("Save", size="sm", elem_id=elem_id(tab, "preset_save"))
    message = gr.HTML(elem_id=elem_id(tab, "preset_message"))
    asked = gr.State("")  # what a second press of the same button would do
    for part in (chosen, name):
        part.do_not_save_to_config = True
    targets = [components[control] for control in _SET]
    row = _Row(store)
    on_page_load(row.refresh, [], [chosen])
    if is_gradio_3():  # later ones would filter the open list by the chosen name
        chosen.focus(row.refresh, outputs=[chosen], **quiet())
    chosen.input(row.load, inputs=[chosen], outputs=[*targets, message, asked], **quiet())
    arguments = quiet(debounced(f"preset_{tab}", len(targets) + 1))
    for target in targets:
        target.change(row.still_is, inputs=[chosen, *targets], outputs=[chosen, message], **arguments)
    answers = [chosen, message, asked]
    save.click(row.save, inputs=[asked, name, *components.controls], outputs=answers, **quiet())
    delete.click(row.delete, inputs=[asked, chosen], outputs=answers, **quiet())


class _Row:
    """What the rows' events do, in terms of gradio updates."""

    def __init__(self, store: PresetStore) -> None:
        self._store = store

    def refresh(self) -> Any:
        """Offer what there is now: another tab or page may have saved or deleted one."""
        import gradio as gr

        return gr.update(choices=self._store.names())

    def load(self, name: str | None) -> list[Any]:
        """Set the controls to a preset."""
        import gradio as gr

        try:
            settings = self._store.get(name or "")
        except PresetError as error:
            return [*(gr.update() for _ in _SET), as_html([str(error)]), ""]
        about = as_html([ABOUT[name]]) if name and name in ABOUT else ""
        return [*(gr.update(value=getattr(settings, control)) for control in _SET), about, ""]

    def still_is(self, name: str | None, *values: Any) -> list[Any]:
        """Take the name, and what is said of it, away once the values are others than the preset's."""
        import gradio as gr

        if not name:
            return [gr.update(), gr.update()]
        try:
            same = self._store.get(name) == Settings.from_dict(dict(zip(_SET, values, strict=True)))
        except (PresetError, SettingsError):
            same = False
        return [gr.update(), gr.update()] if same else [gr.update(value=None), ""]

    def save(self, asked: str, name: str, *values: Any) -> list[Any]:
        """Keep the controls' values under a name; one that is taken needs a second press."""
        import gradio as gr

        name = name if isinstance(name, str) else ""  # the page's API may send anything
        question = f"save {name.strip()}"
        taken = name.strip() in self._store.names() and name.strip() not in BUILT_IN
        if taken and asked != question:
            text = f"There is a preset {name.strip()} already. Press Save again to replace its values."
            return [gr.update(), as_html([text]), question]
        try:
            kept = self._store.save(name, Settings.from_list(list(values)))
        except (PresetError, SettingsError) as error:
            return [gr.update(), as_html([str(error)]), ""]
        said = as_html([f"Saved as {kept}."])
        return [gr.update(choices=self._store.names(), value=kept), said, ""]

    def delete(self, asked: str, name: str | None) -> list[Any]:
        """Forget the chosen preset, at the second press."""
        import gradio as gr

        name = name if isinstance(name, str) else ""
        question = f"delete {name}"
        if name not in BUILT_IN and name in self._store.names() and asked != question:
            return [gr.update(), as_html([f"Press Delete again to delete {name}."]), question]
        try:
            self._store.delete(name)
        except PresetError as error:
            return [gr.update(), as_html([str(error)]), ""]
        return [gr.update(choices=self._store.names(), value=None), as_html([f"Deleted {name}."]), ""]
