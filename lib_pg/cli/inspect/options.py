"""The options of `inspect`: light to import, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def add_command(commands: Any) -> None:
    """Add the subcommand to an argparse subparsers object."""
    parser = commands.add_parser(
        "inspect",
        help="say what a network or checkpoint is, and what of it can be weakened",
        description="Say what a file is without a model: family, kinds and ranks, parts, which engine makes "
        "its weak rows, and what that costs. Only safetensors are read, within limits.",
        epilog="example: python -m lib_pg inspect dog.safetensors --json",
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a .safetensors file, a folder of PEFT's or of diffusers'"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
