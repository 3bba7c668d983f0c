"""Settings as pairs for the parameters of an image (infotext), and back.

Values are plain: whoever writes the line of parameters quotes them, as the hosts do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lib_pg.controls import Control
from lib_pg.settings import CONTROLS, DEFAULTS, Settings, SettingsError

# What was used shows on every image, even where it is the default: a later default may be another.
_ALWAYS = ("mode", "weak_ratio")

# No control: how the differences from a base checkpoint were kept, by their rank.
WEAK_MEMORY = "PG weak memory"

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER_LENGTH = 32  # the longest repr of a float has 24 characters


def to_infotext(settings: Settings) -> dict[str, str]:
    """Return the pairs for an image that these settings made; none where they are not enabled.

    `PG mode` and `PG weak ratio` are always there, others where they are read and differ from their defaults:
    a hires weak ratio where hires is not Own made nothing. No value is empty, and a number is the shortest
    text that reads back as the same number.

    AUTOMATIC1111's own reader changes two kinds of text whatever is written: one like `512x768`, which it
    takes for a size, and one without `,` and `:` that is in double quotes, which it removes.
    """
    if not settings.enabled:
        return {}
    pairs = {}
    for name, value in settings.in_use().to_dict().items():
        key = CONTROLS[name].infotext_key
        if key and (name in _ALWAYS or value != DEFAULTS[name]):
            pairs[key] = value if isinstance(value, str) else repr(value).removesuffix(".0")
    return pairs


def from_infotext(pairs: Mapping[str, str]) -> Settings | None:
    """Return the settings that made an image, or None where its parameters have none: then it ran without.

    Args:
        pairs: all parameters of the image; those that are not ours are ignored, also `PG` keys of later
            versions.

    Raises:
        SettingsError: not a mapping of texts, or a value that could not have been written.
    """
    if not isinstance(pairs, Mapping):
        raise SettingsError("infotext: must be pairs of a key and a text; give the image's parameters")
    values = {
        name: _value(key, control, pairs[key])
        for name, control in CONTROLS.items()
        if (key := control.infotext_key) and key in pairs
    }
    if not values:
        return None
    try:
        return Settings.from_dict({**values, "enabled": True})
    except SettingsError as error:
        raise SettingsError(f"infotext: {error}") from None


def _value(key: str, control: Control, text: object) -> str | float:
    if not isinstance(text, str):
        raise SettingsError(f"infotext: {key}: must be a text; remove it from the parameters")
    if control.kind != "number":
        return text
    number = text.strip()
    if len(number) > _NUMBER_LENGTH or not _NUMBER.fullmatch(number):
        raise SettingsError(
            f"infotext: {key}: got {number[:_NUMBER_LENGTH]!r}, must be a number from {control.minimum:g} to "
            f"{control.maximum:g}; correct it or remove it from the parameters"
        )
    return float(number)
