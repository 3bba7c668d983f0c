"""Heads of results that users give: whether they say what a page needs, in the way it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

_DEPTH_MAX = 20
_NUMBERS = ("start", "end", "weak_ratio")  # of a method's settings, which tell its family
_SPREAD = ("mean", "lowest", "highest")


def check_head(head: Mapping[str, Any]) -> None:
    """See that a head can be reported on.

    Raises:
        ValueError: a part of it is missing or is something else.
    """
    _check_depth(head, _DEPTH_MAX)
    scores = _mapping("scores", head["scores"])
    if not scores:
        raise ValueError("scores is empty; it must name one at least")
    for name, about in scores.items():
        if not _number(f"step of {name}", _mapping(name, about)["step"]) > 0:
            raise ValueError(f"step of {name[:60]!r} is {about['step']!r}; it must be above 0")
    for name, told in _mapping("methods", head["methods"]).items():
        settings = _mapping("settings", _mapping(name, told).get("settings", {}))
        for key in _NUMBERS:
            _number(key, settings.get(key, 0))
        for scale in _list("scales", told.get("scales", [])):
            _number("a scale", scale)
    _mapping("axes", head.get("axes", {}))
    if len([_number("reference", each) for each in _list("reference", head.get("reference", [0, 0]))]) != 2:
        raise ValueError(f"reference is {head['reference']!r}; it must be two numbers")
    _list("notes", head.get("notes", []))
    _check_rules(_mapping("rules", head.get("rules", {})))


def _check_rules(rules: Mapping[str, Any]) -> None:
    """See that all subjects have the errors of the same parts."""
    parts = set()
    for name, told in rules.items():
        missed, seen = (_mapping(key, _mapping(name, told)[key]) for key in ("missed", "wrongly seen"))
        spreads = [_mapping(key, told[key]) for key in ("likeness", "likeness of others")]
        for value in (*missed.values(), *seen.values(), *(each[key] for each in spreads for key in _SPREAD)):
            _number("an error of the rules", value)
        parts.add((frozenset(missed), frozenset(seen)))
    if len(parts) > 1:
        raise ValueError("rules has other parts for one subject than for another")


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, (Mapping, list)):
        return
    if not left:
        raise ValueError(f"its head is nested more than {_DEPTH_MAX} deep")
    for each in value.values() if isinstance(value, Mapping) else value:
        _check_depth(each, left - 1)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name[:60]!r} is {str(value)[:60]!r}; it must be an object")
    return value


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name[:60]!r} is {str(value)[:60]!r}; it must be a list")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError(f"{name[:60]!r} is {str(value)[:60]!r}; it must be a finite number")
    return value
