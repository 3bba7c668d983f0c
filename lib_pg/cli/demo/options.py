"""The options of `demo`: light to import, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib_pg.cli.whole import whole


def add_command(commands: Any) -> None:
    """Add the subcommand to an argparse subparsers object."""
    parser = commands.add_parser(
        "demo",
        help="compare CFG, AG and PG on the bundled tiny model, on a CPU in under a minute",
        description="Ask the bundled personalised model for its subject where it was never seen, with CFG, "
        "AG and PG; write a labelled comparison as a PNG and print step times.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/demo.png"), metavar="PNG", help="default: outputs/demo.png"
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="seed of the first picture of every cell (default: 0)"
    )


def _seed(text: str) -> int:
    seed = whole(text)
    if not 0 <= seed < 2**62:
        raise argparse.ArgumentTypeError(f"seed is {seed}; it must lie between 0 and {2**62 - 1}")
    return seed
