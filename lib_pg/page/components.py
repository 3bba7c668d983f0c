"""What the accordion consists of, and the few things that gradio 3 and 4 spell differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lib_pg.settings import CONTROLS


@dataclass(frozen=True)
class Components:
    """The components of one accordion.

    Attributes:
        tab: `txt2img`, `img2img` or any other word; it begins every elem_id.
        controls: one for each control of the settings, in their order: what `Script.ui` returns.
        line: the HTML that says what will happen.
        pasted: the HTML that says why pasted parameters were not used.
    """

    tab: str
    controls: tuple[Any, ...]
    line: Any
    pasted: Any

    def __getitem__(self, name: str) -> Any:
        """Return the component of a control by its name in the settings."""
        return self.controls[list(CONTROLS).index(name)]


def elem_id(tab: str, name: str) -> str:
    """Return the elem_id of a part of the accordion in a tab."""
    return f"pg_{tab}_{name}"


def gradio_version() -> int:
    """Return gradio's first number: 3 in AUTOMATIC1111, 4 in Forge, later without a WebUI."""
    import gradio as gr

    return int(str(gr.__version__).partition(".")[0])


def is_gradio_3() -> bool:
    """Say whether the page is made by gradio 3 and not by a later one."""
    return gradio_version() == 3


def quiet(script: str | None = None) -> dict[str, Any]:
    """Return arguments for a gradio event that is small: no queue, no spinner, no API route.

    Args:
        script: JavaScript to run in the page before the call.
    """
    arguments: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    arguments |= {"api_name": False} if gradio_version() < 6 else {"api_visibility": "private"}
    if script:
        arguments["_js" if is_gradio_3() else "js"] = script
    return arguments


def on_page_load(fn: Any, inputs: Sequence[Any], outputs: Sequence[Any], script: str | None = None) -> None:
    """Call a function, a script or both whenever somebody opens the page.

    The first values are not known before: the host puts those of its file of defaults in their place.
    """
    from gradio.context import Context

    Context.root_block.load(fn, inputs=list(inputs), outputs=list(outputs), **quiet(script))


def debounced(key: str, count: int) -> str:
    """Return JavaScript that lets only the last event of a burst through to the server.

    Args:
        key: events with the same key belong together.
        count: how many of the arguments are inputs; gradio 3 adds the outputs behind them.
    """
    return f"""async (...args) => {{
        const waiting = (window.pgWaiting = window.pgWaiting || {{}});
        const mine = (waiting["{key}"] = {{}});
        await new Promise((resume) => setTimeout(resume, 300));
        if (waiting["{key}"] !== mine) await new Promise(() => {{}});
        return args.slice(0, {count});
    }}"""
