"""Good and bad network files byte by byte, and how a bad one is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib_pg.deltas import Delta
from lib_pg.formats import NetworkError, read_network

DOWN, UP, ALPHA, MID = (
    f"lora_unet_a.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha", "lora_mid.weight")
)
GOOD = {DOWN: torch.ones(2, 6), UP: torch.ones(4, 2), ALPHA: torch.tensor(1.0)}


def refused(path: Path, pattern: str) -> str:
    """The message of the refusal, which is one line that names the file and says what to do."""
    with pytest.raises(NetworkError, match=pattern) as caught:
        read_network(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(path.stem[:100])
    assert "; " in message
    assert len(message) < 800
    return message


def written(folder: Path, content: bytes) -> Path:
    path = folder / "cat.safetensors"
    path.write_bytes(content)
    return path


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def tensors_of(value: object) -> Iterator[Tensor]:
    """All tensors that a delta keeps, those of deltas in it too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from tensors_of(each)
    elif isinstance(value, Delta):
        for each in vars(value).values():
            yield from tensors_of(each)
