"""`python -m lib_pg serve`: the page, on this machine unless told otherwise."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
import tempfile
import threading
from pathlib import Path

from lib_pg.cli.devices import check_device, chosen_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.serve.shelf import Shelf
from lib_pg.cli.serve.turns import Turns

# Where WebUIs look for it; an installed package has none, and gradio's own spacing.
_STYLE = Path(__file__).resolve().parents[3] / "style.css"
_UPLOAD_MAX = "64mb"


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code: it ends with Ctrl-C."""
    check_device(chosen_device(options.device))
    shelf = Shelf(options.checkpoints, options.networks)
    if not shelf.checkpoints:
        raise UsageError(f"--checkpoints {str(options.checkpoints)!r} holds no checkpoint")
    if not _is_loopback(options.listen):
        print(
            f"warning: whoever reaches {options.listen} can use this page; there is no password",
            file=sys.stderr,
        )
    with tempfile.TemporaryDirectory(prefix="pg-serve-") as temporary:
        # gradio reads them when it is imported: its copies of pictures end with the server.
        os.environ |= {"GRADIO_TEMP_DIR": temporary, "GRADIO_ANALYTICS_ENABLED": "False"}
        _serve(shelf, options)
    return 0


def _serve(shelf: Shelf, options: argparse.Namespace) -> None:
    try:
        import gradio as gr

        from lib_pg.cli.serve.page import build
    except ModuleNotFoundError as error:
        raise UsageError(
            f"serve needs the package {error.name}: pip install -r requirements-serve.txt"
        ) from error
    blocks = build(shelf, Turns(options.out), options)
    try:
        blocks.launch(
            server_name=options.listen,
            server_port=options.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            footer_links=[],
            allowed_paths=[str(options.out.resolve())],
            max_file_size=_UPLOAD_MAX,
            theme=gr.themes.Default(font="system-ui", font_mono="monospace"),  # none is fetched
            css=_STYLE.read_text("utf-8") if _STYLE.is_file() else None,
            ssr_mode=False,
        )
    except OSError as error:
        raise UsageError(f"port {options.port} of {options.listen} cannot be used: {error}") from error
    try:
        print(f"serving {blocks.local_url} until Ctrl-C", flush=True)
        threading.Event().wait()
    finally:
        blocks.close(verbose=False)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
