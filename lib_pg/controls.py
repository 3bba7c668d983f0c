"""What there is to know of a control besides its value, for whoever shows or reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["switch", "number", "choice", "text"]


@dataclass(frozen=True)
class Control:
    """What there is to know of one setting besides its value.

    Attributes:
        label: its name in user interfaces and grid axes.
        help: one line on what it does.
        kind: a switch (bool), a number (float), a choice (one of `choices`) or a text (str).
        minimum: least number, included.
        maximum: greatest number, included.
        choices: the values of a choice, spelled as they are published.
        max_length: the greatest length of a text, in characters.
        in_infotext: whether the parameters of an image have it; the switch has no need to be there.
    """

    label: str
    help: str
    kind: Kind
    minimum: float = 0.0
    maximum: float = 1.0
    choices: tuple[str, ...] = ()
    max_length: int = 0
    in_infotext: bool = True

    @property
    def infotext_key(self) -> str | None:
        """Its key in the parameters of an image, such as `PG weak ratio`; None where it has none."""
        return f"PG {self.label.lower()}" if self.in_infotext else None


def switch(label: str, help: str) -> dict[str, Control]:
    """Return the metadata of a field that is a switch."""
    return {"control": Control(label, help, "switch", in_infotext=False)}


def number(label: str, help: str) -> dict[str, Control]:
    """Return the metadata of a field that is a number from 0 to 1."""
    return {"control": Control(label, help, "number")}


def choice(literal: Any, label: str, help: str) -> dict[str, Control]:
    """Return the metadata of a field that is a choice of the values of a Literal."""
    return {"control": Control(label, help, "choice", choices=get_args(literal))}


def text(max_length: int, label: str, help: str) -> dict[str, Control]:
    """Return the metadata of a field that is a text of limited length."""
    return {"control": Control(label, help, "text", max_length=max_length)}
