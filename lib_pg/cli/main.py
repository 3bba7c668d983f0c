"""The command line: subcommands, and errors as one line with exit code 2.

A subcommand is a folder: `options`, light to import so that `--help` answers at once, and `command`, imported
when it is asked for.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from lib_pg import __version__
from lib_pg.cli.demo import options as demo
from lib_pg.cli.devices import is_out_of_memory
from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate import options as evaluate
from lib_pg.cli.generate import options as generate
from lib_pg.cli.grid import options as grid
from lib_pg.cli.inspect import options as inspect
from lib_pg.cli.serve import options as serve
from lib_pg.cli.signals import INTERRUPTED, Terminated, ended_tidily, quit_by_ctrl_c


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    That is 0, 2 for a request that cannot be met, 130 if interrupted, 143 if told to end.
    """
    _print_all_names()
    options = _parser().parse_args(arguments)
    # What the libraries say to their own developers would hide what we say to the user.
    warnings.filterwarnings("ignore", category=FutureWarning)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        with ended_tidily():
            return _run(options)
    except UsageError as error:
        return _complain(f"error: {error}", 2)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except Terminated as error:
        return _complain("terminated", error.code)


def _print_all_names() -> None:
    """Have standard output escape what it cannot encode, as standard error does: a file may be called so."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(options: argparse.Namespace) -> int:
    try:
        with quit_by_ctrl_c():
            command = importlib.import_module(f"lib_pg.cli.{options.command}.command")
        return int(command.run(options))
    except (ImportError, MemoryError, OSError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(
            "the memory does not suffice; try a smaller --width, --height or --batch, or --dtype float16 "
            "on a GPU"
        ) from error


def _complain(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m lib_pg",
        description="Personalization guidance: pictures that keep a LoRA's subject and follow the prompt.",
    )
    parser.add_argument("--version", action="version", version=f"personalization-guidance {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    demo.add_command(commands)
    generate.add_command(commands)
    grid.add_command(commands)
    inspect.add_command(commands)
    evaluate.add_command(commands)
    serve.add_command(commands)
    return parser
