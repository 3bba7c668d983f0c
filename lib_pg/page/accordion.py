"""The accordion: one component for every control, in the order of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lib_pg import TITLE
from lib_pg.page.checkpoint_picker import build_checkpoint
from lib_pg.page.components import Components, debounced, elem_id, on_page_load, quiet
from lib_pg.page.forecast import as_html
from lib_pg.page.keyboard import reach_headers
from lib_pg.page.lists import Lists
from lib_pg.page.network_picker import build_networks
from lib_pg.page.number_fields import keep_numbers
from lib_pg.page.preset_row import build_presets
from lib_pg.page.presets import PresetStore
from lib_pg.settings import CONTROLS, DEFAULTS

_STEP = 0.01
# Values that count only beside another one.
_IN_USE: Mapping[str, Callable[[Mapping[str, Any]], bool]] = MappingProxyType(
    {
        "weak_ratio_end": lambda values: values["schedule"] != "Constant",
        "hires_weak_ratio": lambda values: values["hires"] == "Own",
    }
)
_NOTHING_YET = "Write a prompt with a LoRA, such as <lora:name:1>: here stands what will happen to it."


def build(
    tab: str,
    presets: PresetStore,
    defaults: Mapping[str, Any] | None = None,
    hires: bool = True,
    lists: Lists | None = None,
) -> Components:
    """Build the accordion within the current gradio Blocks.

    Args:
        tab: `txt2img`, `img2img` or another word; every elem_id begins with `pg_` and it.
        presets: the built-in ones and the user's own; the same for all tabs.
        defaults: first values that differ from the settings' defaults, by name. The host does not keep them
            in its own file of defaults: that would hide a later change of the option they come from.
        hires: whether there is a second pass in this tab; its controls are hidden where there is none.
        lists: what networks and checkpoints there are to choose from; a WebUI's own where it is not given.
    """
    values = {**DEFAULTS, **(defaults or {})}
    made: dict[str, Any] = {}
    with _header(tab, bool(values["enabled"])) as enabled:
        made["enabled"] = enabled
        line = _html(tab, "line", as_html([_NOTHING_YET]))
        pasted = _html(tab, "pasted", "")
        _main_controls(tab, made, values)
        section = _advanced_controls(tab, made, values, hires, lists or Lists())
        components = Components(tab, tuple(made[name] for name in CONTROLS), line, pasted)
        build_presets(components, presets)
    for name in defaults or {}:
        made[name].do_not_save_to_config = True
    _show_where_used(made, "schedule", "weak_ratio_end", lambda schedule: schedule != "Constant")
    if hires:
        _show_where_used(made, "hires", "hires_weak_ratio", lambda choice: choice == "Own")
    _enable_where_read(made)
    _count_in_label(tab, made, section)
    reach_headers(tab)
    keep_numbers(tab)
    return components


def _header(tab: str, enabled: bool) -> AbstractContextManager[Any]:
    try:
        from modules.ui_components import InputAccordion
    except ImportError:
        return _PlainAccordion(tab, enabled)
    accordion: AbstractContextManager[Any] = InputAccordion(enabled, label=TITLE, elem_id=f"pg_{tab}")
    return accordion


class _PlainAccordion:
    """An accordion with a tick inside, for pages without the hosts' accordion that has it in its header."""

    def __init__(self, tab: str, enabled: bool) -> None:
        import gradio as gr

        self._tab, self._enabled = tab, enabled
        self._accordion = gr.Accordion(TITLE, open=enabled, elem_id=f"pg_{tab}")

    def __enter__(self) -> Any:
        import gradio as gr

        self._accordion.__enter__()
        control = CONTROLS["enabled"]
        return gr.Checkbox(
            self._enabled, label=control.label, info=control.help, elem_id=elem_id(self._tab, "enabled")
        )

    def __exit__(self, *error: Any) -> None:
        self._accordion.__exit__(*error)


@dataclass(frozen=True)
class _Section:
    """The section that is closed at first.

    Attributes:
        accordion: the component.
        label: what its header says where all in it is as at first.
        names: the controls in it.
    """

    accordion: Any
    label: str
    names: tuple[str, ...]


def _main_controls(tab: str, made: dict[str, Any], values: Mapping[str, Any]) -> None:
    import gradio as gr

    with gr.Row(elem_classes="pg-row"):
        _add(made, tab, "mode", values)
        _add(made, tab, "weak_prompt", values)
    _add(made, tab, "weak_ratio", values)


def _advanced_controls(
    tab: str, made: dict[str, Any], values: Mapping[str, Any], hires: bool, lists: Lists
) -> _Section:
    """Build the closed section; return it, to count in its label what is set inside."""
    import gradio as gr

    label = "Schedule, networks, hires" if hires else "Schedule, networks"
    outside = set(made)
    with gr.Accordion(label, open=False, elem_id=elem_id(tab, "advanced")) as accordion:
        with gr.Row(elem_classes="pg-row"):
            _add(made, tab, "schedule", values)
            _add(made, tab, "weak_ratio_end", values, visible=values["schedule"] != "Constant")
        with gr.Row(elem_classes="pg-row"):
            _add(made, tab, "start", values)
            _add(made, tab, "end", values)
        with gr.Row(elem_classes="pg-row"):
            _add(made, tab, "outside", values)
        made["networks"] = build_networks(tab, values["networks"], lists)
        with gr.Row(elem_classes="pg-row", visible=hires):
            _add(made, tab, "hires", values)
            _add(made, tab, "hires_weak_ratio", values, visible=values["hires"] == "Own")
        made["base_checkpoint"] = build_checkpoint(tab, values["base_checkpoint"], lists)
    return _Section(accordion, label, tuple(name for name in made if name not in outside))


def _add(made: dict[str, Any], tab: str, name: str, values: Mapping[str, Any], visible: bool = True) -> None:
    import gradio as gr

    control = CONTROLS[name]
    common = {
        "label": control.label,
        "info": control.help,
        "elem_id": elem_id(tab, name),
        "visible": visible,
        "interactive": True,  # gradio would guess it from the events
    }
    if control.kind == "choice":
        made[name] = gr.Radio(list(control.choices), value=values[name], **common)
    else:
        made[name] = gr.Slider(control.minimum, control.maximum, values[name], step=_STEP, **common)


def _html(tab: str, name: str, value: str) -> Any:
    import gradio as gr

    return gr.HTML(value, elem_id=elem_id(tab, name))


def _show_where_used(made: Mapping[str, Any], choice: str, name: str, is_used: Callable[[str], bool]) -> None:
    import gradio as gr

    def show(value: str) -> Any:
        return gr.update(visible=is_used(value))

    on_page_load(show, [made[choice]], [made[name]])
    made[choice].change(show, inputs=[made[choice]], outputs=[made[name]], **quiet())


def _enable_where_read(made: Mapping[str, Any]) -> None:
    """Let the weak prompt be chosen in PG alone: AG's weak branch reads the prompt itself."""
    import gradio as gr

    def enable(mode: str) -> Any:
        return gr.update(interactive=mode == "PG")

    on_page_load(enable, [made["mode"]], [made["weak_prompt"]])
    made["mode"].change(enable, inputs=[made["mode"]], outputs=[made["weak_prompt"]], **quiet())


def _count_in_label(tab: str, made: Mapping[str, Any], section: _Section) -> None:
    """Show on the closed section that an image or a preset has set something inside."""
    import gradio as gr

    def count(*values: Any) -> Any:
        return gr.update(label=label_of(section.label, dict(zip(section.names, values, strict=True))))

    inputs = [made[name] for name in section.names]
    on_page_load(count, inputs, [section.accordion])
    arguments = quiet(debounced(f"section_{tab}", len(inputs)))
    for source in inputs:
        source.change(count, inputs=inputs, outputs=[section.accordion], **arguments)


def label_of(label: str, values: Mapping[str, Any]) -> str:
    """Return the label of a section with the number of values that are in use and not the defaults."""
    used = dict(values)
    for name, is_used in _IN_USE.items():
        if name in used and not is_used(values):
            del used[name]
    changed = sum(value != DEFAULTS[name] for name, value in used.items())
    return f"{label} ({changed} set)" if changed else label
