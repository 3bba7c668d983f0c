"""A file that cannot be used ends a command with one line, also where it is read within a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lib_pg.cli.errors import UsageError
from lib_pg.formats import NetworkError


@contextmanager
def in_one_line(before: str = "") -> Iterator[None]:
    """Turn what is wrong with a file into a UsageError, with some words before it."""
    try:
        yield
    except NetworkError as error:
        raise UsageError(f"{before}{error}") from error
