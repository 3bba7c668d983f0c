"""Whole numbers on the command line."""

from __future__ import annotations

import argparse


def whole(text: str) -> int:
    """Return the number that an option is given; argparse would name our function where there is none."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no whole number") from error
