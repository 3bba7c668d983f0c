"""Rows of a batch in whatever a U-Net is called with."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def take_rows(value: Any, rows: slice, total: int) -> Any:
    """Return `value` with those rows of every tensor in it that belongs to a batch of `total` rows."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == total else value
    if isinstance(value, dict):
        return {key: take_rows(item, rows, total) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(take_rows(item, rows, total) for item in value)
    return value
