"""The options of `serve`: light to import, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib_pg.cli.devices import add_device
from lib_pg.cli.generate.job import DTYPES, Job
from lib_pg.cli.whole import whole

LOOPBACK = "127.0.0.1"


def add_command(commands: Any) -> None:
    """Add the subcommand to an argparse subparsers object."""
    parser = commands.add_parser(
        "serve",
        help="a page in the browser, with the WebUI's accordion",
        description="Serve a page on this machine: prompt, checkpoint, networks, the accordion of the WebUI "
        "extension, a gallery. It needs gradio: pip install -r requirements-serve.txt",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--checkpoints", type=Path, metavar="FOLDER",
        help="what can be chosen as checkpoint and base checkpoint: .safetensors files and diffusers folders "
        "in it (default: a bundled tiny model alone)",
    )  # fmt: skip
    files.add_argument(
        "--networks", type=Path, metavar="FOLDER",
        help="what <lora:name:1> in a prompt finds: .safetensors files in it",
    )  # fmt: skip
    files.add_argument(
        "--config", type=Path, metavar="FOLDER",
        help="diffusers folder with the configuration for single-file checkpoints, to work offline",
    )  # fmt: skip
    files.add_argument(
        "--out", type=Path, default=Path("outputs"), metavar="FOLDER", help="where PNGs go (default: outputs)"
    )
    files.add_argument(
        "--presets", type=Path, default=Path("presets"), metavar="FOLDER",
        help="where presets are kept (default: presets)",
    )  # fmt: skip
    server = parser.add_argument_group("server")
    server.add_argument(
        "--listen", default=LOOPBACK, metavar="ADDRESS",
        help=f"who is answered: {LOOPBACK} is this machine alone (default), 0.0.0.0 everybody in the "
        "network, without a password",
    )  # fmt: skip
    server.add_argument("--port", type=_port, default=7865, help="default: 7865")
    server.add_argument(
        "--waiting", type=_waiting, default=8, metavar="VISITORS",
        help="how many may wait for their pictures at once, 1 to 100 (default: 8)",
    )  # fmt: skip
    add_device(server)
    server.add_argument(
        "--dtype", choices=DTYPES, default=Job.dtype, help=f"precision (default: {Job.dtype})"
    )


def _port(text: str) -> int:
    return _whole("port", text, 1, 65535)


def _waiting(text: str) -> int:
    return _whole("number of visitors", text, 1, 100)


def _whole(name: str, text: str, low: int, high: int) -> int:
    number = whole(text)
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{name} is {number}; it must lie between {low} and {high}")
    return number
