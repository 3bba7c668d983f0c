"""The extension's section on the host's settings page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lib_pg import TITLE
from lib_pg.guidance import Mode
from lib_pg.settings import CONTROLS, DEFAULTS, Settings, SettingsError

Console = Literal["Warnings", "Details"]

SECTION = ("personalization_guidance", TITLE)

_WEAK_RATIO = "pg_default_weak_ratio"
_MODE = "pg_default_mode"
_CONSOLE = "pg_console"
_INFOTEXT = "pg_write_infotext"
_MEMORY = "pg_weak_memory"
_MEMORY_MAX = 512
_FAST = "pg_fast_steps"


@dataclass(frozen=True)
class Options:
    """What the user chose on the settings page.

    Attributes:
        default_weak_ratio: where the weak ratio stands when the page is opened.
        default_mode: where the mode stands when the page is opened.
        console: `Warnings` only, or `Details` of every run too.
        write_infotext: whether images say how they were guided.
        weak_memory: rank to which differences from a base checkpoint are cut; 0 keeps them exact.
        fast: whether memory is spent on steps that take less time to start.
    """

    default_weak_ratio: float = DEFAULTS["weak_ratio"]
    default_mode: Mode = DEFAULTS["mode"]
    console: Console = "Warnings"
    write_infotext: bool = True
    weak_memory: int = 0
    fast: bool = False


def register_options() -> None:
    """Add the section: the callback for `on_ui_settings`."""
    import gradio as gr
    from modules import shared

    def add(key: str, value: Any, label: str, component: Any, arguments: Mapping[str, Any]) -> Any:
        option = shared.OptionInfo(value, label, component, dict(arguments), section=SECTION)
        shared.opts.add_option(key, option)
        return option

    default, ratio, mode = Options(), CONTROLS["weak_ratio"], CONTROLS["mode"]
    bounds = {"minimum": ratio.minimum, "maximum": ratio.maximum, "step": 0.01}
    modes, consoles = {"choices": list(mode.choices)}, {"choices": list(get_args(Console))}

    option = add(_WEAK_RATIO, default.default_weak_ratio, "Weak ratio at the start", gr.Slider, bounds)
    option.info(ratio.help.rstrip(".")).needs_reload_ui()
    option = add(_MODE, default.default_mode, "Mode at the start", gr.Radio, modes)
    option.info(mode.help.rstrip(".")).needs_reload_ui()
    add(_CONSOLE, default.console, "What the console shows", gr.Radio, consoles)
    option = add(_INFOTEXT, default.write_infotext, "Write the guidance into images", gr.Checkbox, {})
    option.info("without it, pasting an image's parameters switches the extension off")
    bounds = {"minimum": 0, "maximum": _MEMORY_MAX, "step": 1}
    option = add(_MEMORY, default.weak_memory, "Base checkpoint: rank of the differences", gr.Slider, bounds)
    option.info("0 keeps them exact, at one copy of what differs; 64 needs far less and is not exact")
    option = add(_FAST, default.fast, "Fast steps for more memory", gr.Checkbox, {})
    option.info(
        "keeps the full and the weak weights of linear layers side by side: about 1 GB with SD 1.5, 9 GB "
        "with SDXL; for a GPU that waits for the processor, with a constant weak ratio"
    )


def read_options() -> Options:
    """Return the current options; one that is missing or not usable has its default."""
    from modules import shared

    default = Options()
    console = getattr(shared.opts, _CONSOLE, default.console)
    write = getattr(shared.opts, _INFOTEXT, default.write_infotext)
    fast = getattr(shared.opts, _FAST, default.fast)
    return Options(
        _usable("weak_ratio", getattr(shared.opts, _WEAK_RATIO, default.default_weak_ratio)),
        _usable("mode", getattr(shared.opts, _MODE, default.default_mode)),
        console if console in get_args(Console) else default.console,
        write if isinstance(write, bool) else default.write_infotext,
        _rank(getattr(shared.opts, _MEMORY, default.weak_memory)),
        fast if isinstance(fast, bool) else default.fast,
    )


def _rank(value: object) -> int:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MEMORY_MAX
    return int(value) if usable else 0  # type: ignore[call-overload]


def _usable(name: str, value: object) -> Any:
    try:
        return getattr(Settings.from_dict({name: value}), name)
    except SettingsError:
        return DEFAULTS[name]
