"""The protocol `bundled`: drawn subjects, taught by the command itself, and rules that read the pictures."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from lib_pg.cli.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def run(options: argparse.Namespace) -> int:
    """Carry out the protocol and return the exit code.

    Raises:
        UsageError: this is no clone of the repository, or a request cannot be met.
    """
    check_world(ROOT)
    let_import_world(ROOT)
    from lib_pg.cli.evaluate.drawn_run import evaluate

    return evaluate(options)


def check_world(root: Path) -> None:
    """Raise UsageError where the drawn world is not beside the package, which may be installed alone."""
    if not (root / "training" / "world.py").is_file():
        raise UsageError(
            "--bundled draws its subjects with training/, which only a clone of the repository has: run "
            "this command from the folder of one"
        )


def let_import_world(root: Path) -> None:
    """Have the drawn world found also by a program that does not look in its own folder, such as `pg`."""
    spec = find_spec("training")
    if spec is None or str(root / "training") not in (spec.submodule_search_locations or ()):
        sys.path.insert(0, str(root))
