"""The controls as axes of the host's X/Y/Z plot.

An axis leaves its value in `p.pg_overrides`, a dict of its own for each cell: the host copies `p` for every
cell and throws the copy away.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib_pg import TITLE
from lib_pg.controls import Control
from lib_pg.hosts.webui.checkpoints import find_checkpoint, listed_checkpoints
from lib_pg.hosts.webui.notices import Notices, collecting
from lib_pg.page.page_warning import warn_on_page
from lib_pg.settings import CONTROLS, NO_CHECKPOINT, Settings, SettingsError

ATTRIBUTE = "pg_overrides"

_MODULE_FILE = "xyz_grid.py"
_DRAW = "draw_xyz_grid"
_ORIGINAL = "personalization_guidance_original"
_LISTED = 8
_SWITCH = {"true": True, "false": False}


def overrides_of(p: Any) -> dict[str, Any]:
    """Return what the axes want for this cell, by the names of the settings; empty outside a grid."""
    overrides = getattr(p, ATTRIBUTE, None)
    return dict(overrides) if isinstance(overrides, Mapping) else {}


def override(p: Any, settings: Mapping[str, Any]) -> None:
    """Put settings, by name, in the place of the user's for this cell; what it has already stays."""
    setattr(p, ATTRIBUTE, {**overrides_of(p), **settings})


def cell_of(p: Any) -> str:
    """Return what the axes want for this cell, as users read it; empty where none of them is ours."""
    return ", ".join(f"[PG] {CONTROLS[name].label} {value}" for name, value in overrides_of(p).items())


def with_overrides(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of a cell in their place; neither argument changes.

    An axis in use switches the extension on, but not where it says itself that it is off or that the mode
    is CFG.
    """
    merged = {**settings, **overrides}
    if overrides and "enabled" not in overrides and overrides.get("mode") != "CFG":
        merged["enabled"] = True
    return merged


def settings_of_axes(labels: Sequence[str]) -> list[str]:
    """Return the names of the settings that axes with these labels set; other axes are left out."""
    by_label = {_label(control): name for name, control in CONTROLS.items()}
    return [by_label[label] for label in labels if label in by_label]


def register(module: Any) -> None:
    """Put the axes behind those of the host's X/Y/Z module; older ones of ours are replaced.

    The module's grids have the notices of all their cells from then on: the host keeps the first one's.
    """
    ours = axes(module.AxisOption)
    labels = {axis.label for axis in ours}
    module.axis_options[:] = [axis for axis in module.axis_options if axis.label not in labels] + ours
    if (draw := getattr(module, _DRAW, None)) is not None:
        original = getattr(draw, _ORIGINAL, draw)
        drawing = collecting(original)
        setattr(drawing, _ORIGINAL, original)
        setattr(module, _DRAW, drawing)


def register_axes() -> None:
    """Find the host's X/Y/Z module and put the axes there: the callback for `on_before_ui`."""
    module = _xyz_module()
    if module is None:
        print(f"[{TITLE}] no X/Y/Z plot found, so there are no axes for it")
    else:
        register(module)


def axes(axis_option: Callable[..., Any]) -> list[Any]:
    """Return an axis for every control, in their order.

    Args:
        axis_option: the host's class, `AxisOption`.
    """
    return [_axis(axis_option, name, control) for name, control in CONTROLS.items()]


def _axis(axis_option: Callable[..., Any], name: str, control: Control) -> Any:
    return axis_option(
        _label(control),
        float if control.kind == "number" else str,
        _apply(name),
        confirm=_confirm(name, control),
        choices=_choices(name, control),
    )


def _label(control: Control) -> str:
    return f"[PG] {control.label}"


def _apply(name: str) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        override(p, {name: _setting(name, value)})

    return apply


def _confirm(name: str, control: Control) -> Callable[[Any, list[Any]], None]:
    def confirm(p: Any, values: list[Any]) -> None:
        """Leave the grid without cells where a value is wrong: for an error the host prints a traceback."""
        try:
            for value in values:
                _check(name, value)
        except SettingsError as error:
            _tell(p, f"no grid is made, [PG] {control.label} cannot be used. {error}")
            values.clear()

    return confirm


def _check(name: str, value: Any) -> None:
    # The other end of the interval is open here: each axis is checked by itself.
    Settings.from_dict({name: _setting(name, value)})
    if name == "base_checkpoint" and value != NO_CHECKPOINT and find_checkpoint(value) is None:
        known = ", ".join(_checkpoints()[:_LISTED])
        raise SettingsError(f"{name}: {value!r} is none of the host's; choose from {known}")


def _tell(p: Any, message: str) -> None:
    notices = Notices(p, warn_on_page)
    notices.warn(message)
    notices.answer(p)


def _choices(name: str, control: Control) -> Callable[[], list[str]] | None:
    if control.kind == "switch":
        return lambda: ["True", "False"]
    if name == "base_checkpoint":
        return _checkpoints
    return (lambda: list(control.choices)) if control.kind == "choice" else None


def _checkpoints() -> list[str]:
    return [NO_CHECKPOINT, *listed_checkpoints()]


def _setting(name: str, value: Any) -> Any:
    """Return the setting for a value as the host has it: switches come as texts."""
    if CONTROLS[name].kind == "switch" and isinstance(value, str):
        return _SWITCH.get(value.strip().lower(), value)
    return value


def _xyz_module() -> Any:
    from modules import scripts

    for data in scripts.scripts_data:
        if os.path.basename(data.path) == _MODULE_FILE and hasattr(data.module, "axis_options"):
            return data.module
    return None
