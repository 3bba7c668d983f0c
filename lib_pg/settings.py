"""Every control of Personalization Guidance as one frozen dataclass, checked when it is made.

The order of the fields is public: it is the order of the positional API arguments. Append, never reorder.
The table `CONTROLS` says what a user interface, a command line or a grid axis needs to know of each.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from lib_pg import controls
from lib_pg.controls import Control
from lib_pg.guidance import Mode, Schedule, WeakPrompt

Outside = Literal["CFG", "None"]
Hires = Literal["Same", "Off", "Own"]

NO_CHECKPOINT = "None"

# Control characters, lone surrogates, line and paragraph separators: none belongs in a name.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_SHOWN = 60


class SettingsError(ValueError):
    """A setting is not usable; the message names it, its value, what is allowed and what to do."""


@dataclass(frozen=True)
class Settings:
    """What the user chose. Numbers lie in [0, 1]; texts are stripped of outer white space.

    Attributes:
        enabled: whether the extension does anything.
        mode: PG, AG or CFG; CFG changes nothing.
        weak_ratio: omega, the share of the fine-tune that the weak branch keeps.
        weak_prompt: what PG's weak branch reads, the null prompt or the user's negative prompt.
        schedule: how omega goes from `weak_ratio` at the first step to `weak_ratio_end` at the last.
        weak_ratio_end: omega at the last step; not used by Constant.
        start: fraction of the sampling steps at which guidance begins, at most `end`.
        end: fraction of the sampling steps at which guidance ends; as great as `start` means never.
        outside: what runs before `start` and after `end`: plain CFG, or None for no weak rows at all.
        networks: names of the networks to weaken, separated by commas, at most 2000 characters; empty means
            all but accelerators. A list of names may be given, too.
        hires: what the second pass does: the same, nothing, or the same with its own omega.
        hires_weak_ratio: omega of the second pass where `hires` is Own.
        base_checkpoint: title of the checkpoint that a full fine-tune started from, at most 500 characters;
            "None" where there is none, which an empty text or a null also mean.

    Raises:
        SettingsError: a value has the wrong type or lies outside what is allowed.
    """

    enabled: bool = field(
        default=False,
        metadata=controls.switch(
            "Enabled", "Keep the subject of a LoRA or fine-tune, and follow the prompt."
        ),
    )
    mode: Mode = field(
        default="PG",
        metadata=controls.choice(
            Mode,
            "Mode",
            "PG: more of the subject. AG: the same, with your prompt on both sides. CFG: no change.",
        ),
    )
    weak_ratio: float = field(
        default=0.7,
        metadata=controls.number(
            "Weak ratio",
            "Lower: more of the subject; higher: closer to plain CFG. The share of the fine-tune that is "
            "kept in what guidance pushes away from.",
        ),
    )
    weak_prompt: WeakPrompt = field(
        default="Null",
        metadata=controls.choice(
            WeakPrompt, "Weak prompt", "What PG pushes away from: no prompt at all, or your negative prompt."
        ),
    )
    schedule: Schedule = field(
        default="Constant",
        metadata=controls.choice(
            Schedule, "Schedule", "How the weak ratio changes from the first step to the last."
        ),
    )
    weak_ratio_end: float = field(
        default=0.7,
        metadata=controls.number("Weak ratio end", "Weak ratio at the last step; for Linear and Cosine."),
    )
    start: float = field(
        default=0.0,
        metadata=controls.number("Start", "Fraction of the sampling steps at which guidance begins."),
    )
    end: float = field(
        default=1.0, metadata=controls.number("End", "Fraction of the sampling steps at which guidance ends.")
    )
    outside: Outside = field(
        default="CFG",
        metadata=controls.choice(
            Outside, "Outside", "Before start, after end: plain CFG, or None for half the cost."
        ),
    )
    networks: str = field(
        default="",
        metadata=controls.text(
            2000, "Networks", "Those to weaken, with commas between; empty: all but accelerators."
        ),
    )
    hires: Hires = field(
        default="Same",
        metadata=controls.choice(Hires, "Hires", "Second pass: the same, off, or with its own weak ratio."),
    )
    hires_weak_ratio: float = field(
        default=0.7,
        metadata=controls.number("Hires weak ratio", "Weak ratio of the second pass, for Hires: Own."),
    )
    base_checkpoint: str = field(
        default=NO_CHECKPOINT,
        metadata=controls.text(500, "Base checkpoint", "What a full fine-tune started from, or None."),
    )

    def __post_init__(self) -> None:
        for name, control in CONTROLS.items():
            object.__setattr__(self, name, _checked(name, control, getattr(self, name)))
        if self.start > self.end:
            raise SettingsError(
                f"start: got {self.start!r}, which is after end = {self.end!r}; "
                "it must be from 0 to end; lower start or raise end"
            )

    @property
    def network_names(self) -> tuple[str, ...]:
        """The names in `networks`, stripped, without empty ones."""
        return tuple(name for part in self.networks.split(",") if (name := part.strip()))

    def in_use(self) -> Settings:
        """Return the same settings with those that others leave unread at their defaults."""
        unread = {
            "weak_prompt": self.mode == "AG",
            "weak_ratio_end": self.schedule == "Constant",
            "outside": self.start == 0.0 and self.end == 1.0,
            "hires_weak_ratio": self.hires != "Own",
            "base_checkpoint": self.mode == "CFG",
        }
        return replace(self, **{name: DEFAULTS[name] for name, is_unread in unread.items() if is_unread})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Make settings from a dict; a missing key has its default, an unknown one is a SettingsError."""
        if not isinstance(values, Mapping):
            raise SettingsError(
                f"settings: got {_shown(values)}, must be a dict; give keys such as 'weak_ratio'"
            )
        for key in values:
            if not isinstance(key, str) or key not in CONTROLS:
                raise SettingsError(f"settings: got the key {_shown(key)}, which is unknown; {_known(key)}")
        return cls(**values)

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Settings:
        """Make settings from a list in the order of the fields; those missing at its end have their defaults.

        Raises:
            SettingsError: not a list or tuple, more values than there are fields, or a bad value.
        """
        if not isinstance(values, (list, tuple)):
            raise SettingsError(f"settings: got {_shown(values)}, must be a list; give the values in order")
        if len(values) > len(CONTROLS):
            raise SettingsError(
                f"settings: got {len(values)} values, must be at most {len(CONTROLS)}; "
                f"leave out those after {list(CONTROLS)[-1]!r}"
            )
        return cls(**dict(zip(CONTROLS, values, strict=False)))

    @classmethod
    def from_args(cls, args: Sequence[Any]) -> Settings:
        """Make settings from the API's `args`: a list with one dict, or the positional list.

        Whatever follows a dict is ignored: hosts fill up the list with what their page shows.
        """
        if isinstance(args, (list, tuple)) and args and isinstance(args[0], Mapping):
            return cls.from_dict(args[0])
        return cls.from_list(args)

    def to_dict(self) -> dict[str, Any]:
        """Return every field by name; `from_dict` takes it back."""
        return {name: getattr(self, name) for name in CONTROLS}

    def to_list(self) -> list[Any]:
        """Return every field in its order; `from_list` takes it back."""
        return list(self.to_dict().values())

    def non_default(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults; `from_dict` takes it back."""
        return {name: value for name, value in self.to_dict().items() if value != DEFAULTS[name]}


CONTROLS: Mapping[str, Control] = MappingProxyType({f.name: f.metadata["control"] for f in fields(Settings)})
DEFAULTS: Mapping[str, Any] = MappingProxyType({f.name: f.default for f in fields(Settings)})


def check_switch(args: Sequence[Any]) -> None:
    """Raise SettingsError where the API's `args` is a dict of controls that does not say `enabled`."""
    given = args[0] if isinstance(args, (list, tuple)) and args else None
    if isinstance(given, Mapping) and given and "enabled" not in given:
        raise SettingsError(
            f'enabled: missing beside {_shown(next(iter(given)))}, so nothing is done; add "enabled": true'
        )


def _checked(name: str, control: Control, value: object) -> object:
    if name == "networks" and isinstance(value, (list, tuple)):
        value = _joined(name, value)
    if name == "base_checkpoint" and value is None:  # JSON's null, and a dropdown with nothing chosen
        return NO_CHECKPOINT
    if control.kind == "switch":
        return _checked_switch(name, value)
    if control.kind == "number":
        return _checked_number(name, control, value)
    if control.kind == "choice":
        return _checked_choice(name, control, value)
    return _checked_text(name, control, value) or DEFAULTS[name]


def _checked_switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        step = "write it without quotes" if isinstance(value, str) else "write one of these"
        raise SettingsError(f"{name}: got {_shown(value)}, must be true or false; {step}")
    return value


def _checked_number(name: str, control: Control, value: object) -> float:
    allowed = f"must be a number from {control.minimum:g} to {control.maximum:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        step = (
            "write it without quotes" if isinstance(value, str) else f"write one such as {DEFAULTS[name]:g}"
        )
        raise SettingsError(f"{name}: got {_shown(value)}, {allowed}; {step}")
    if not control.minimum <= value <= control.maximum:  # not a number compares false, too
        raise SettingsError(f"{name}: got {_shown(value)}, {allowed}; choose a value in that range")
    return float(value) + 0.0  # turns -0.0 into 0.0


def _checked_choice(name: str, control: Control, value: object) -> str:
    if isinstance(value, str) and value in control.choices:
        return value
    listing = ", ".join(map(repr, control.choices))
    matches = [
        choice for choice in control.choices if isinstance(value, str) and choice.lower() == value.lower()
    ]
    step = f"did you mean {matches[0]!r}?" if matches else "choose one of these"
    raise SettingsError(f"{name}: got {_shown(value)}, must be one of {listing}; {step}")


def _checked_text(name: str, control: Control, value: object) -> str:
    allowed = f"must be a text of at most {control.max_length} characters"
    if not isinstance(value, str):
        step = "leave it out" if value is None else "write it in quotes"
        raise SettingsError(f"{name}: got {_shown(value)}, {allowed}; {step}")
    text = value.strip()  # infotext does not keep outer white space either
    if len(text) > control.max_length:
        raise SettingsError(f"{name}: got {len(text)} characters, {allowed}; shorten it")
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise SettingsError(
            f"{name}: got {_shown(text)}, {allowed} without line breaks or control characters; remove these"
        )
    return text


def _joined(name: str, names: Sequence[object]) -> str:
    """Return a list of names as one text; a name with a comma cannot be told from two then."""
    for each in names:
        if not isinstance(each, str) or "," in each:
            raise SettingsError(
                f"{name}: got a list with {_shown(each)}, must be a text or a list of names without commas; "
                "leave it out and write :pg=1 in the tags of the others"
            )
    return ", ".join(str(each).strip() for each in names)


def _known(key: object) -> str:
    close = (
        difflib.get_close_matches(str(key)[:_SHOWN].lower(), CONTROLS, n=1) if isinstance(key, str) else []
    )
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(CONTROLS)}"


def _shown(value: object) -> str:
    """Describe any value in a few words; its own repr may be endless, or fail."""
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 64 else "an integer of over 64 bits"
    return f"a value of type {type(value).__name__}"
