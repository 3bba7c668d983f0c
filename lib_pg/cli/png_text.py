"""The text that says how a picture was made, in the layout of AUTOMATIC1111's WebUI: compose, parse.

    a photo of sks dog
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: dog, PG mode: PG

The layout has no escapes for prompts, so some cannot be told from what follows; `compose` lists these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAX_TEXT_BYTES = 1 << 20

_NEGATIVE = "Negative prompt:"
# With fewer pairs the WebUI takes the last line for a part of the prompt.
_LEAST_PAIRS = 3
_KEY = re.compile(r"\w[\w \-/]*[\w\-/]")
# A pair, or else a run of letters that is none: skipping it whole keeps the time linear in the length.
_PAIR = re.compile(r'[ \-/]*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"(?=,|$)|[^,]*),?|[\w \-/]+')


class PngTextError(ValueError):
    """A text cannot be written so that it reads back, or an image has none that can be read."""


@dataclass(frozen=True)
class Parameters:
    """What the text of an image says.

    Attributes:
        prompt: the prompt, with its line breaks.
        negative: the negative prompt; empty where the text has none.
        pairs: the parameters in their order, such as `Steps` and `PG mode`; of equal keys the last counts.
    """

    prompt: str
    negative: str = ""
    pairs: Mapping[str, str] = field(default_factory=dict)


def compose(prompt: str, negative: str, pairs: Mapping[str, str]) -> str:
    """Return the text for a prompt, a negative prompt and parameters.

    Args:
        prompt: any text of which no line starts with `Negative prompt:` (indented or not) or ends with a
            carriage return.
        negative: the same.
        pairs: none, or at least three. A key has two or more letters, digits, spaces, `_`, `-` and `/`,
            starts with none of the last two and has no space at its ends. A value is any text.

    Raises:
        PngTextError: `parse` would not return just this. Besides the above: without pairs, a last line that
            looks like pairs or ends with white space; half of a surrogate pair or a NUL; over 1 MiB.

    The WebUI's own reader also drops white space around each line and empty lines before the first word.
    """
    lines = [prompt] if prompt else []
    if negative:
        lines.append(f"{_NEGATIVE} {negative}")
    if pairs:
        lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items()))
    text = "\n".join(lines)
    check_text(text)
    found = parse(text)
    if found != Parameters(prompt, negative, dict(pairs)):
        raise PngTextError(_what_differs(found, prompt, pairs))
    return text


def parse(text: str) -> Parameters:
    """Take a text apart, as the WebUI does; what is no pair with a value in the last line is ignored.

    Raises:
        PngTextError: over 1 MiB.
    """
    check_size(text)
    head, _, last = text.rstrip().rpartition("\n")
    pairs = list(_pairs(last))
    if len(pairs) < _LEAST_PAIRS:
        pairs, head = [], text.rstrip()
    prompt, negative = _prompts(head)
    return Parameters(prompt, negative, {key: _unquoted(value) for key, value in pairs if value})


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    for match in _PAIR.finditer(line):
        if match[1]:
            yield match[1].strip(), match[2].strip()


def _prompts(head: str) -> tuple[str, str]:
    prompt: list[str] = []
    negative: list[str] = []
    lines = prompt
    for line in head.split("\n"):
        line = line.removesuffix("\r")
        if line.lstrip().startswith(_NEGATIVE):
            lines = negative
            line = line.lstrip().removeprefix(_NEGATIVE).removeprefix(" ")
        lines.append(line)
    return "\n".join(prompt), "\n".join(negative)


def _quoted(value: str) -> str:
    # The WebUI quotes for the first three only; its reader needs it for the others as well.
    if any(mark in value for mark in ",:\n") or value.startswith('"') or value != value.strip() or not value:
        return json.dumps(value, ensure_ascii=False)
    return value


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        plain = str(json.loads(value))
        plain.encode()  # escapes can spell half of a surrogate pair
    except ValueError:
        return value
    return plain


def check_size(text: str) -> None:
    """Raise PngTextError for a text over 1 MiB."""
    if len(text) > MAX_TEXT_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise PngTextError("generation parameters of over 1 MiB; shorten the prompt")


def check_text(text: str) -> None:
    """Raise PngTextError for a text that no image can hold."""
    check_size(text)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise PngTextError("generation parameters with a NUL or half of a surrogate pair; remove it")


def _what_differs(found: Parameters, prompt: str, pairs: Mapping[str, str]) -> str:
    if 0 < len(pairs) < _LEAST_PAIRS:
        return f"{len(pairs)} parameters would read back as a part of the prompt; give none or at least 3"
    for key in pairs:
        if not _KEY.fullmatch(key):
            return (
                f"the parameter {key[:60]!r} would not read back; use two or more letters, digits or spaces"
            )
    if found.pairs != pairs:
        return "the last line of the prompt would read back as parameters; add parameters or another line"
    which = "prompt" if found.prompt != prompt else "negative prompt"
    return (
        f"the {which} would not read back; no line may start with {_NEGATIVE!r} or end in a carriage return; "
        "without parameters the last may not end with white space"
    )
