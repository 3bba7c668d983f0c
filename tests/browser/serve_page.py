"""Serves the accordion on pages like those of the hosts, with the gradio of the interpreter that runs this.

    python tests/browser/serve_page.py FOLDER

The presets are kept in FOLDER. Prints one line of JSON, the gradio version and the pages' addresses, and
serves until its standard input ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import gradio as gr  # noqa: E402

from lib_pg.page import accordion  # noqa: E402
from lib_pg.page.live_line import LiveLine  # noqa: E402
from lib_pg.page.presets import PresetStore  # noqa: E402

NETWORKS = {"sks_dog": {}, "detail": {}, "fast": {"ss_output_name": "LCM distilled"}}

# The hosts put the tick into the accordion's header: this does so with the checkbox that gradio made.
_MOVE_TICK = """(id) => {
    const source = document.querySelector(`#${id}-checkbox input`);
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.className = "tick";
    tick.ariaLabel = "Enabled";
    tick.checked = source.checked;
    tick.addEventListener("click", (event) => event.stopPropagation());
    tick.addEventListener("change", () => source.click());
    document.querySelector(`#${id} .label-wrap`).prepend(tick);
}"""


class InputAccordion:
    """A stand-in for the hosts' class of that name: entered as an accordion, used as a checkbox.

    Theirs is a kind of gr.Checkbox. This one is not: gradio 4 writes a file beside any such class.
    """

    def __init__(self, value: bool, *, label: str, elem_id: str) -> None:
        self._checkbox = gr.Checkbox(value, label=label, elem_id=f"{elem_id}-checkbox", visible=False)
        self._accordion = gr.Accordion(label, open=value, elem_id=elem_id)

    def __enter__(self) -> gr.Checkbox:
        self._accordion.__enter__()
        return self._checkbox

    def __exit__(self, *error: Any) -> None:
        self._accordion.__exit__(*error)


def page(presets: PresetStore, ticks: list[str]) -> gr.Blocks:
    """Return a page with the tabs txt2img and img2img; `ticks` are accordions with a tick to be moved."""
    css = (ROOT / "style.css").read_text("utf-8")
    with gr.Blocks(css=css, title="page under test", analytics_enabled=False) as blocks:
        with gr.Tabs():
            with gr.Tab("txt2img", elem_id="tab_txt2img"):
                _tab("txt2img", presets, prompt_first=True)
            with gr.Tab("img2img", elem_id="tab_img2img"):
                _tab("img2img", presets, prompt_first=False)
        calls = "".join(f"({_MOVE_TICK})('{tick}');" for tick in ticks)
        script = {"_js" if gr.__version__.startswith("3.") else "js": f"() => {{ {calls} return []; }}"}
        blocks.load(None, [], [], **script)
    return blocks.queue()


def _tab(tab: str, presets: PresetStore, prompt_first: bool) -> None:
    """Build what the extension looks for in a tab, and the accordion as our script builds it."""
    live = LiveLine(tab)

    def note(component: Any) -> None:
        live.after_component(component, elem_id=component.elem_id)

    def host_parts() -> None:
        note(gr.Textbox(label="Prompt", lines=3, elem_id=f"{tab}_prompt"))
        note(gr.Textbox(label="Negative prompt", elem_id=f"{tab}_neg_prompt"))
        note(gr.Slider(1, 150, 8, step=1, label="Sampling steps", elem_id=f"{tab}_steps"))
        if tab == "txt2img":
            note(gr.Checkbox(label="Hires. fix", elem_id="txt2img_hr-checkbox"))
        note(gr.Slider(1.0, 30.0, 7.0, step=0.5, label="CFG Scale", elem_id=f"{tab}_cfg_scale"))

    if prompt_first:
        host_parts()
    defaults = {"weak_ratio": 0.7, "mode": "PG"}
    live.built(accordion.build(tab, presets, defaults, hires=tab == "txt2img"))
    if not prompt_first:
        host_parts()
    if tab == "txt2img":
        note(gr.Dropdown(["None", "X/Y/Z plot"], value="None", type="index", elem_id="script_list"))
        axes = ["Nothing", "[PG] Weak ratio"]
        for axis, value in zip("xyz", ("[PG] Weak ratio", "Nothing", "Nothing"), strict=True):
            plot_id = f"script_txt2img_xyz_plot_{axis}_type"
            note(gr.Dropdown(axes, value=value, type="index", elem_id=plot_id))
    note(gr.Gallery(elem_id=f"{tab}_gallery", visible=False))  # the hosts build it last


def main() -> None:
    """Serve both pages: one of a host without an accordion of its own, one of a host that has it."""
    presets = PresetStore(Path(sys.argv[1]))
    networks: Any = types.ModuleType("networks")
    networks.available_networks = {
        name: types.SimpleNamespace(metadata=metadata) for name, metadata in NETWORKS.items()
    }
    sys.modules["networks"] = networks
    pages = {"plain": page(presets, [])}
    components: Any = types.ModuleType("modules.ui_components")
    components.InputAccordion = InputAccordion
    sys.modules["modules"] = types.ModuleType("modules")
    sys.modules["modules.ui_components"] = components
    pages["host"] = page(presets, ["pg_txt2img", "pg_img2img"])
    addresses = {name: _served(blocks) for name, blocks in pages.items()}
    print(json.dumps({"gradio": gr.__version__, **addresses}), flush=True)
    importlib.import_module("lib_pg.networks")  # now, so that the first line need not wait for torch
    sys.stdin.read()


def _served(blocks: gr.Blocks) -> str:
    with contextlib.redirect_stdout(sys.stderr):  # which gradio 3 writes to although it shall be quiet
        blocks.launch(
            server_name="127.0.0.1",
            server_port=_free_port(),
            prevent_thread_lock=True,
            quiet=True,
            show_api=False,
        )
    return str(blocks.local_url)


def _free_port() -> int:
    """Return a port that gradio would not find: it takes 7860, where a host may be about to start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
