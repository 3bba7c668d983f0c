"""What the console is told."""

from __future__ import annotations

from lib_pg import TITLE
from lib_pg.formats.errors import one_line


def say(text: str) -> None:
    """Print a sentence; a console that cannot take it costs nobody a picture.

    One of Windows may not have a name's letters, and one that was closed has no place for any.
    """
    line = f"[{TITLE}] {one_line(text)}"
    try:
        print(line)
    except UnicodeEncodeError:
        print(line.encode("ascii", "backslashreplace").decode())
    except (OSError, ValueError):
        return
