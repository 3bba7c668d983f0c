"""Putting the controls back to what made an image, from the parameters in its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib_pg import TITLE
from lib_pg.hosts.webui.console import say
from lib_pg.infotext import from_infotext
from lib_pg.page.forecast import as_html
from lib_pg.page.page_warning import warn_on_page
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

        An image that was made without the extension switches it off; so do parameters that are not usable,
        which `Complaint` says.
        """
        try:
            settings = from_infotext(params)
        except SettingsError:
            settings = None
        if self.name == "enabled":
            return settings is not None
        return None if settings is None else getattr(settings, self.name)


@dataclass(frozen=True)
class Complaint:
    """Says on the page and on the console why pasted parameters are not used."""

    def __call__(self, params: Mapping[str, Any]) -> str:
        """Return HTML, empty where all is well; never raises."""
        try:
            from_infotext(params)
        except SettingsError as error:
            message = f"The pasted parameters cannot be used, so the extension is off. {error}."
            say(message)
            warn_on_page(f"{TITLE}: {message}")
            return as_html([message])
        return ""


def infotext_fields(components: Components) -> list[tuple[Any, Any]]:
    """Return pairs of a component and what reads its value, as the host's `Script.infotext_fields`."""
    pairs = [
        (component, Restore(name)) for name, component in zip(CONTROLS, components.controls, strict=True)
    ]
    return [*pairs, (components.pasted, Complaint())]


def paste_field_names() -> list[Any]:
    """Return what the host's `Script.paste_field_names` needs for its 'Send to' buttons."""
    return [*(Restore(name) for name in CONTROLS), Complaint()]
