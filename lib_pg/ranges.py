"""Numbers as users of an X/Y/Z plot write them: lists, ranges and counts."""

from __future__ import annotations

import math
import re

_LENGTH_MAX = 2000
_DIGITS = 10
# There is one way to read each: with two, what is no range takes the third power of its length.
_NUMBER = r"[+-]?\s*(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?"
# `0-1 (+0.25)` in steps, `0-1 [5]` as many as that, `0-1` in steps of 1.
_RANGE = re.compile(
    rf"(?P<first>{_NUMBER})\s*-\s*(?P<last>{_NUMBER})\s*"
    rf"(?:\((?P<step>{_NUMBER})\s*\)|\[\s*(?P<count>\d{{1,9}})\s*\])?",
    re.ASCII | re.IGNORECASE,
)
_HOW = "write a list such as 0, 0.5, 1, a range such as 0-1 (+0.25), or a count such as 0-1 [5]"


class RangeError(ValueError):
    """A text is no list of usable numbers; the message says what was given, what is allowed, what to do."""


def numbers(text: object, minimum: float, maximum: float, most: int) -> list[float]:
    """Return the numbers that a text lists, in its order, each once; none for an empty text.

    Args:
        text: parts with commas between: a number, `0-1` or `1-0` in steps of 1, `0-1 (+0.25)` in those
            steps (the last one is the greatest that is not beyond the end) or `0-1 [5]`, that many with both
            ends.
        minimum: least number allowed, included.
        maximum: greatest number allowed, included.
        most: how many different numbers are allowed.

    Raises:
        RangeError: a part that cannot be read or lies outside what is allowed, or too many numbers.
    """
    if not isinstance(text, str):
        raise RangeError(f"got {_shown(text)}, must be a text; {_HOW}")
    if len(text) > _LENGTH_MAX:
        raise RangeError(f"got {len(text)} characters, must be at most {_LENGTH_MAX}; shorten it")
    found: dict[float, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        for value in _values(part, most):
            if not minimum <= value <= maximum:  # not a number compares false, too
                allowed = f"must lie between {minimum:g} and {maximum:g}"
                raise RangeError(f"got {_shown(part)}, {allowed}; choose values in that range")
            found[value] = None
        if len(found) > most:
            raise RangeError(_too_many(part, most))
    return list(found)


def _values(part: str, most: int) -> list[float]:
    if (plain := _number(part)) is not None:
        return [plain]
    if (found := spread(part, most)) is None:
        raise RangeError(f"got {_shown(part)}, which cannot be read; {_HOW}")
    return found


def spread(part: str, most: int) -> list[float] | None:
    """Return the numbers of a range or count, which `numbers` describes; None where a part is neither.

    Raises:
        RangeError: it leads nowhere, or to more than `most` numbers; that is known before any is made.
    """
    match = _RANGE.fullmatch(part.strip())
    if match is None:
        return None
    first, last = _end(part, match["first"]), _end(part, match["last"])
    if not math.isfinite(last - first):
        raise RangeError(f"got {_shown(part)}, whose ends are too far apart; {_HOW}")
    if match["count"] is not None:
        count = int(match["count"])
        step = (last - first) / (count - 1) if count > 1 else 0.0
    else:
        step = _end(part, match["step"]) if match["step"] else math.copysign(1.0, last - first)
        if not step or (last - first) / step < 0:
            raise RangeError(f"got {_shown(part)}, whose step leads nowhere; {_HOW}")
        steps = (last - first) / step
        count = math.floor(steps + 1e-9) + 1 if steps < most else most + 1
    if not 0 < count <= most:
        raise RangeError(_too_many(part, most))
    return [_rounded(first + index * step) for index in range(count)]


def _end(part: str, text: str) -> float:
    value = _number(text)
    if value is None:
        raise RangeError(f"got {_shown(part)}, which cannot be read; {_HOW}")
    return value


def _number(text: str) -> float | None:
    text = re.sub(r"\s+", "", text)
    if not re.fullmatch(_NUMBER, text, re.ASCII | re.IGNORECASE):
        return None
    value = float(text)
    return _rounded(value) if math.isfinite(value) else None


def _rounded(value: float) -> float:
    """Return a number without what adding up fractions leaves behind, and without a negative zero."""
    return round(value, _DIGITS) + 0.0


def _too_many(part: str, most: int) -> str:
    return f"got {_shown(part)}, must be from 1 to {most} numbers in all; list fewer"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
