"""The comparison in the host's list of scripts: glue between script methods and `lib_pg`.

The always-visible script's file, which is loaded first, has dropped what an older version left in memory.
"""

from __future__ import annotations

from typing import Any

from modules import scripts

from lib_pg.hosts.detect import UnsupportedHost, find_host
from lib_pg.page import compare


class Script(scripts.Script):
    """The script that users choose to compare methods and weak ratios."""

    def title(self) -> str:
        return compare.COMPARE_TITLE

    def show(self, is_img2img: bool) -> bool:
        try:
            find_host()
        except UnsupportedHost:  # the always-visible script has said why
            return False
        return True

    def ui(self, is_img2img: bool) -> list[Any]:
        controls = compare.build("img2img" if is_img2img else "txt2img")
        self.infotext_fields = compare.infotext_fields(controls)
        return controls

    def run(self, p: Any, *args: Any) -> Any:
        return compare.compare(p, *args)
