"""Putting the controls back to what made an image, from the parameters in its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib_pg import TITLE
from lib_pg.infotext import from_infotext
from lib_pg.settings import CONTROLS, SettingsError

if TYPE_CHECKING:
    from lib_pg.page.components import Components


@dataclass(frozen=True)
class Restore:
    """Reads one control's value from the parameters of an image.

    The hosts compare these objects when they send parameters from one tab to another: those of the same
    control are equal in every tab.

    Attributes:
        name: the control's name in the settings.
    """

    name: str

    def __call__(self, params: Mapping[str, Any]) -> Any:
        """Return the value, or None to leave the control as it is; never raises.

        An image that was made without the extension, or whose parameters are not usable, switches it off.
        """
        try:
            settings = from_infotext(params)
        except SettingsError as error:
            settings = None
            if self.name == "enabled":  # once for all the controls
                print(f"[{TITLE}] switched off by the pasted parameters, {error}")
        if self.name == "enabled":
            return settings is not None
        return None if settings is None else getattr(settings, self.name)


def infotext_fields(components: Components) -> list[tuple[Any, Any]]:
    """Return pairs of a component and what reads its value, as the host's `Script.infotext_fields`."""
    return [(component, Restore(name)) for name, component in zip(CONTROLS, components.controls, strict=True)]


def paste_field_names() -> list[Any]:
    """Return what the host's `Script.paste_field_names` needs for its 'Send to' buttons."""
    return [Restore(name) for name in CONTROLS]
