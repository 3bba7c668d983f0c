"""`python -m lib_pg evaluate`: does guidance keep the subject and follow the prompt?"""

from __future__ import annotations

import argparse
import importlib

from lib_pg.cli.devices import chosen_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.options import strays

# Sampling steps and pictures at once, where nobody says them, by protocol.
_STEPS = {"bundled": 12, "dreambench": 25}
_BATCH = {"bundled": 128, "dreambench": 4}


def run(options: argparse.Namespace) -> int:
    """Carry out the protocol that is asked for, or write its page, and return the exit code.

    Raises:
        UsageError: a request that cannot be met, or an option that this protocol has not.
    """
    if options.report is None:
        if others := strays(options):
            raise UsageError(
                f"with the protocol {options.protocol} {', '.join(others)} would do nothing; leave out what "
                "belongs to the other one"
            )
        options.steps = options.steps or _STEPS[options.protocol]
        options.device = chosen_device(options.device)
        options.batch = options.batch or _BATCH[options.protocol]
    what = options.protocol if options.report is None else "report"
    protocol = importlib.import_module(f"lib_pg.cli.evaluate.{what}")
    return int(protocol.run(options))
