"""Where pictures go: a folder that is tried before the work, and names that are claimed, not looked up."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lib_pg.cli.errors import UsageError

_NUMBERED = re.compile(r"(\d{5,9})-")


@contextmanager
def output_folder(folder: Path, option: str) -> Iterator[None]:
    """Make a folder and see that a file can be written there; if the block leaves it empty, it goes again.

    Args:
        folder: with all folders above it that are missing.
        option: the command line's name for it, for the message.

    Raises:
        UsageError: it is a file, lies below one, or cannot be written.
    """
    made: list[Path] = []
    try:
        try:
            for each in [*reversed(folder.parents), folder]:
                if not os.path.isdir(each):  # the method of a path raises where a name is too long
                    each.mkdir(exist_ok=True)
                    made.append(each)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            problem = f"nothing can be written to folder {str(folder)!r}: {_reason(error)}"
            raise UsageError(f"{problem}; choose another with {option}") from error
        yield
    finally:
        for each in reversed(made):
            with suppress(OSError):  # it holds pictures
                each.rmdir()


def save_new(data: bytes, folder: Path, seed: int) -> Path:
    """Save a PNG under the next free number, `00007-SEED.png`, and return its path.

    The name is claimed by making the file that is written to, `00007-SEED.png.part`: programs that write to
    one folder at once never share one, and a picture has its name once it is whole.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise unwritten(folder, error) from error
    taken = [int(found[1]) for name in names if (found := _NUMBERED.match(name))]
    number = max(taken, default=-1) + 1
    while not _saved(path := folder / f"{number:05d}-{seed}.png", data):
        number += 1
    return path


def _saved(path: Path, data: bytes) -> bool:
    """Write a new file; say no where another has its name, or claims it."""
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            part.open("xb").close()
        except FileExistsError:
            return False
        try:
            part.write_bytes(data)
            return _is_named(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise unwritten(path, error) from error


def _is_named(part: Path, path: Path) -> bool:
    """Give a whole file its name unless that is taken, also since it was claimed."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a disk without hard links; those who claim names first never meet here
        if os.path.lexists(path):
            return False
        os.replace(part, path)
    return True


def replace_file(path: Path, data: bytes, option: str = "--out") -> None:
    """Write a file that appears whole or not at all, however the program ends meanwhile.

    Args:
        option: the command line's name for its folder, for the message.

    Raises:
        UsageError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritten(path, error, option) from error


def unwritten(path: Path, error: OSError, option: str = "--out") -> UsageError:
    """Return what the user is told where a file cannot be written."""
    return UsageError(
        f"{str(path)!r} cannot be written: {_reason(error)}; make room or choose another {option}"
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
