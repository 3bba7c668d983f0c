"""`python -m lib_pg evaluate`: does guidance keep the subject and follow the prompt?"""

from __future__ import annotations

import argparse
import importlib


def run(options: argparse.Namespace) -> int:
    """Carry out the protocol that is asked for and return the exit code."""
    what = "report" if options.report else options.protocol
    protocol = importlib.import_module(f"lib_pg.cli.evaluate.{what}")
    return int(protocol.run(options))
