"""A warning on the page that waits for a picture, at once: gradio shows it in a corner for some seconds."""

from __future__ import annotations

import html
import warnings


def warn_on_page(message: str) -> None:
    """Show a sentence on the page whose event runs in this thread; elsewhere, as in API calls, do nothing.

    Forge and its relatives make pictures in a thread of their own, where gradio does not know the page.
    """
    import gradio as gr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a page gradio makes it Python's warning
        gr.Warning(html.escape(message, quote=False))  # gradio may take it for HTML
