"""The WebUIs' encoded prompts: tensors, or dicts with `crossattn`, `vector` and, for Flux, `guidance`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# ControlNet's mark: one constant token, of at least this size, in front of a conditioning.
_MARK = 500.0


def tokens(conditioning: Any) -> Tensor:
    """Return the text part (rows, tokens, width) of a conditioning."""
    text: Tensor = conditioning["crossattn"] if isinstance(conditioning, dict) else conditioning
    return text


def null_rows(null: Any, uncond: Any, text_of: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """Return the null prompt in the form and with the rows of the host's own uncond.

    Args:
        null: one encoded prompt.
        uncond: what it replaces; everything but its rows, device and dtype is left behind.
        text_of: makes the text of all rows (rows, tokens, width) from the null prompt's one row and the
            text it replaces.
    """
    old = tokens(uncond)
    text = text_of(tokens(null).to(old), old)
    if not isinstance(uncond, dict):
        return text
    rows = copy.copy(uncond)
    rows.update(
        {key: in_rows(null[key].to(value), len(old)) for key, value in uncond.items() if key != "crossattn"},
        crossattn=text,
    )
    return rows


def in_rows(row: Tensor, rows: int) -> Tensor:
    """Return a tensor of one row as `rows` equal ones, without a copy."""
    return row.expand(rows, *row.shape[1:])


def in_length_of(cond: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what repeats a null prompt to the length of the prompts, which keeps both in one batch.

    ControlNet's mark in front of the text that is replaced is kept.
    """

    def text_of(null: Tensor, old: Tensor) -> Tensor:
        marks = old[:, :1] if _has_mark(old) else old[:, :0]
        length = tokens(cond).shape[1] - marks.shape[1]
        text = null.repeat(1, math.ceil(length / null.shape[1]), 1)[:, :length]
        return torch.cat([marks, in_rows(text, len(old))], dim=1)

    return text_of


def _has_mark(text: Tensor) -> bool:
    first = text[:, 0]
    return bool((first == first[:, :1]).all() and first[0, 0].abs() > _MARK)
