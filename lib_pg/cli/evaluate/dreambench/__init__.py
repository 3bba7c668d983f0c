"""`python -m lib_pg evaluate --protocol dreambench`: subjects and fine-tunes of the user."""

from __future__ import annotations

import argparse


def run(options: argparse.Namespace) -> int:
    """Carry out the protocol and return the exit code; its options are light to import."""
    from lib_pg.cli.evaluate.dreambench.command import run

    return run(options)
