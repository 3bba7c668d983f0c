"""The live line for settings and a situation, in a host that knows some networks."""

from __future__ import annotations

from typing import Any

from lib_pg.hosts.webui.network_files import KnownNetwork
from lib_pg.page.forecast import forecast
from lib_pg.page.situation import HostFiles, Situation
from lib_pg.settings import Settings

DOG = "<lora:dog:1>"
KNOWN = {
    "dog": KnownNetwork(),
    "xl": KnownNetwork(family="SDXL"),
    "old": KnownNetwork(family="SD 1.x"),
    "turn": KnownNetwork(kinds=frozenset({"OFT"})),
    "both": KnownNetwork(kinds=frozenset({"OFT", "LoRA"})),
}
FILES = HostFiles(
    find=KNOWN.get,
    similar=lambda name: "dog" if name.lower() == "dog" else "",
    family=lambda: "SD 1.x",
    left_out=frozenset({"OFT"}),
)
SITUATION = {
    "prompt",
    "negative",
    "cfg_scale",
    "steps",
    "second_pass",
    "refiner",
    "axes",
    "may_change",
    "runs_all_steps",
}


def sentences(files: HostFiles | None = None, **given: Any) -> list[str]:
    """Return the line for settings and a situation, whose names do not overlap."""
    situation = {"prompt": DOG, "cfg_scale": 7.0, **{key: given[key] for key in SITUATION & given.keys()}}
    settings = {"enabled": True, **{key: given[key] for key in given.keys() - SITUATION}}
    return forecast(Settings(**settings).to_list(), Situation(**situation), files)


def said(files: HostFiles | None = None, **given: Any) -> str:
    return " ".join(sentences(files, **given))
