"""Intervals, fronts, plots and the page of an evaluation: `python -m lib_pg evaluate --report RESULTS`."""

from __future__ import annotations

import argparse


def run(options: argparse.Namespace) -> int:
    """Write the page of a file of results and return the exit code."""
    from lib_pg.cli.evaluate.report.write import write_report

    print(write_report(options.report, options.docs, option="--docs"))
    return 0
