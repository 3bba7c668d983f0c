"""What the console is told."""

from __future__ import annotations

from lib_pg import TITLE


def printable(text: str) -> str:
    """Return a text on one line, `?` for what is no letter: terminals follow commands, and half of a pair of
    surrogates is no text that could be sent."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def say(text: str) -> None:
    """Print a sentence; a console that cannot take it costs nobody a picture.

    One of Windows may not have a name's letters, and one that was closed has no place for any.
    """
    line = f"[{TITLE}] {printable(text)}"
    try:
        print(line)
    except UnicodeEncodeError:
        print(line.encode("ascii", "backslashreplace").decode())
    except (OSError, ValueError):
        return
