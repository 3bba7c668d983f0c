"""The options of `evaluate`: light to import, so that `--help` answers at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lib_pg.cli.evaluate.dreambench.options import add_options
from lib_pg.cli.whole import whole

_CACHE = Path("build/evaluate")


def add_command(commands: Any) -> None:
    """Add the subcommand to an argparse subparsers object."""
    parser = commands.add_parser(
        "evaluate",
        help="measure how CFG, AG and PG keep the subject and follow the prompt",
        description="Make the same pictures with CFG, AG and PG at several scales and weak ratios; measure "
        "how well each keeps the subject and follows the prompt. A run that was ended goes on where it was.",
        epilog="several processes or GPUs share the work: accelerate launch --multi_gpu --num_processes 2 "
        "-m lib_pg evaluate --bundled",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--bundled", dest="protocol", action="store_const", const="bundled",
        help="on the bundled tiny model, whose subjects are taught first; needs a clone of the repository",
    )  # fmt: skip
    what.add_argument("--protocol", choices=("bundled", "dreambench"), help="bundled, or your own models")
    what.add_argument(
        "--report", type=Path, metavar="RESULTS", help="write the page and plots of a results.json"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="with --bundled: one subject and fewer pictures, minutes instead of hours",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/evaluate"), metavar="FOLDER",
        help="where records and results go (default: outputs/evaluate)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=_CACHE, metavar="FOLDER",
        help="with --bundled: where the taught subjects are kept (default: build/evaluate)",
    )  # fmt: skip
    parser.add_argument("--seed", type=_seed, default=0, help="of teaching and of the pictures (default: 0)")
    parser.add_argument("--steps", type=_positive, help="sampling steps (default: 12; dreambench: 25)")
    parser.add_argument(
        "--batch", type=_positive, help="pictures made at once, at most (default: 128; dreambench: 4)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps or auto (default: cpu)")
    parser.add_argument(
        "--docs", type=Path, default=Path("docs"), metavar="FOLDER",
        help="where --report writes (default: docs)",
    )  # fmt: skip
    add_options(parser)


def strays(options: argparse.Namespace) -> list[str]:
    """Return options that were given although the other protocol alone has them: they would do nothing."""
    own: dict[str, Any] = {"quick": False, "cache": _CACHE}
    if options.protocol == "bundled":
        parser = argparse.ArgumentParser()
        add_options(parser)
        own = vars(parser.parse_args([]))
    given = [name for name, default in own.items() if getattr(options, name, default) != default]
    return [f"--{name.replace('_', '-')}" for name in given]


def _positive(text: str) -> int:
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {number}; it must be at least 1")
    return number


def _seed(text: str) -> int:
    seed = whole(text)
    if not 0 <= seed < 2**31:
        raise argparse.ArgumentTypeError(f"seed is {seed}; it must lie between 0 and {2**31 - 1}")
    return seed
