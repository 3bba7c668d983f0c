"""Named settings: the built-in ones and the user's own, kept in one JSON file."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pg.presets import BUILT_IN
from lib_pg.settings import Settings, SettingsError

MAX_NAME = 60
MAX_PRESETS = 200
MAX_BYTES = 1_000_000

_FILE = "presets.json"
_DIGITS = 20
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
# Whether it is on belongs to the moment, not to the preset.
_NOT_KEPT = ("enabled",)


class PresetError(ValueError):
    """A preset cannot be read or kept; the message says which, why and what to do."""


class PresetStore:
    """The built-in presets and those in a folder; one for all tabs, which may change them at once.

    Args:
        folder: where the file is kept; made when the first preset is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._changing = threading.Lock()  # held while the file is read, changed and written

    def names(self) -> list[str]:
        """Return the names of all presets, the built-in ones first; an unusable file has none."""
        try:
            own = sorted(self._read(), key=str.casefold)
        except PresetError:
            own = []
        return [*BUILT_IN, *(name for name in own if name not in BUILT_IN)]

    def get(self, name: str) -> Settings:
        """Return the settings of a preset; `enabled` is false in every one.

        Raises:
            PresetError: there is none of that name, or it is not usable.
        """
        name = _text(name)
        if name in BUILT_IN:
            return BUILT_IN[name]
        kept = self._read()
        if name not in kept:
            raise PresetError(f"There is no preset {_shown(name)}; choose one from the list.")
        try:
            return Settings.from_dict(_kept_values(kept[name]))
        except SettingsError as error:
            raise PresetError(f"Preset {_shown(name)} is not usable: {error}. Save it anew.") from None

    def save(self, name: str, settings: Settings) -> str:
        """Keep settings under a name, in place of an own preset of that name; return the name as kept.

        Raises:
            PresetError: the name is not usable or belongs to a built-in preset, or the file is not writable.
        """
        name = _checked_name(name)
        with self._changing:
            kept = self._read()
            kept[name] = _kept_values(settings.to_dict())
            if len(kept) > MAX_PRESETS:
                raise PresetError(f"There are {MAX_PRESETS} presets already; delete one first.")
            self._write(kept)
        return name

    def delete(self, name: str) -> None:
        """Forget an own preset.

        Raises:
            PresetError: it is built in, there is none of that name, or the file is not writable.
        """
        name = _text(name)
        if name in BUILT_IN:
            raise PresetError(f"{name!r} is built in and stays; choose one of your own.")
        with self._changing:
            kept = self._read()
            if name not in kept:
                raise PresetError(f"There is no preset {_shown(name)} of your own; choose one from the list.")
            del kept[name]
            self._write(kept)

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise PresetError(f"{self._path} cannot be read ({error.strerror}); check the file.") from None
        if len(data) > MAX_BYTES:
            raise self._broken(f"over {MAX_BYTES} bytes")
        try:
            kept = json.loads(data, parse_int=_whole)
        except (ValueError, RecursionError):
            raise self._broken("not JSON") from None
        if not isinstance(kept, dict) or len(kept) > MAX_PRESETS:
            raise self._broken(f"not an object of at most {MAX_PRESETS} presets")
        return {name: values for name, values in kept.items() if _is_name(name)}

    def _broken(self, why: str) -> PresetError:
        return PresetError(f"{self._path} is not usable ({why}); correct it or move it away.")

    def _write(self, kept: Mapping[str, Any]) -> None:
        try:
            data = json.dumps(kept, indent=1, ensure_ascii=True).encode("ascii")
        except RecursionError:  # what was just deep enough to be read
            raise self._broken("too deep") from None
        if len(data) > MAX_BYTES:
            raise PresetError("The presets would take too much room; delete one first.")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._path, data)
        except OSError as error:
            raise PresetError(
                f"{self._path} cannot be written ({error.strerror}); check the folder."
            ) from None


def _whole(digits: str) -> float:
    """Return a number as JSON has it; thousands of digits must not cost seconds."""
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _replace(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _kept_values(values: object) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise SettingsError("must be an object")
    return {name: value for name, value in values.items() if name not in _NOT_KEPT}


def _checked_name(name: object) -> str:
    stripped = _text(name).strip()
    if not _is_name(stripped):
        raise PresetError(f"A preset needs a name of 1 to {MAX_NAME} printable characters; type one.")
    if stripped in BUILT_IN:
        raise PresetError(f"{stripped!r} is built in; choose another name.")
    return stripped


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= MAX_NAME
        and name == name.strip()
        and not any(unicodedata.category(character) in _UNPRINTABLE for character in name)
    )


def _text(name: object) -> str:
    """Return a name as the page's API gives it, which may be anything."""
    return name if isinstance(name, str) else ""


def _shown(name: str) -> str:
    return repr(name[:MAX_NAME]) if name else "without a name"
