"""The one error of this package, and text from a file made fit for a message."""

from __future__ import annotations

from collections.abc import Sequence

NAMES_SHOWN = 3
NAME_LENGTH = 120


class NetworkError(ValueError):
    """A network file that cannot be used; the message is one line for the user.

    Args:
        file: what the user calls the file.
        problem: what is wrong, with the value found and the values allowed.
        advice: what to do about it.
    """

    def __init__(self, file: str, problem: str, advice: str) -> None:
        super().__init__(f"{printable(file)}: {problem}; {advice}")


def printable(text: str) -> str:
    """Return `text` on one line, without control characters, cut to `NAME_LENGTH` characters."""
    return one_line(text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 3] + "...")


def one_line(text: str) -> str:
    """Return `text` with `?` for what is no letter.

    Terminals follow control characters, and half of a pair of surrogates is no text that could be sent.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def counted(number: int, noun: str) -> str:
    """Return '1 layer', '2 layers'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str]) -> str:
    """Return the first few of `names` and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
