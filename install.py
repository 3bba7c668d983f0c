"""Run by the WebUI when it starts: everything needed is there already, so this only checks the host.

It installs and upgrades nothing, and it never stops the host from starting.
"""

from __future__ import annotations

import re
from pathlib import Path

OLDEST = (1, 10, 0)


def main() -> None:
    version = a1111_version()
    if version is not None and version < OLDEST:
        print(
            f"Personalization Guidance needs AUTOMATIC1111 {_text(OLDEST)} or later, "
            f"this is {_text(version)}: update the WebUI, or disable the extension on its Extensions tab"
        )


def a1111_version() -> tuple[int, ...] | None:
    """Return the host's version, from the heading of its own list of changes; None where it has none.

    Forge and its relatives count for themselves: whether they can do what is needed shows when it starts.
    """
    if Path("modules_forge").is_dir():
        return None
    try:
        text = Path("CHANGELOG.md").read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError:
        return None
    found = re.search(r"^## (\d+)\.(\d+)\.(\d+)", text, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else None


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    main()
