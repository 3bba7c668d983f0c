"""The safetensors container: bounded and checked before any tensor is touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lib_pg.deltas.kind import Header
from lib_pg.formats.errors import NetworkError, printable
from lib_pg.formats.limits import HEADER_BYTES_MAX, KEY_LENGTH_MAX, TENSORS_MAX

LENGTH_BYTES = 8
AGAIN = "download it again, or choose another file"
LOOKALIKES = {
    b"PK": "is a zip archive, such as a PyTorch checkpoint (.pt, .ckpt), renamed",
    b"\x80": "is a Python pickle, such as an old PyTorch checkpoint (.pt, .ckpt), renamed",
    b"<": "is a web page",
    b"version ": "is a Git LFS pointer, not the file itself",
}


@dataclass(frozen=True, eq=False)
class Container:
    """An open file.

    Attributes:
        name: what the user calls it.
        tensors: the header, by key.
        metadata: the header's free text.
        load: returns the tensor of a key, in memory of its own.
    """

    name: str
    tensors: Mapping[str, Header]
    metadata: Mapping[str, str]
    load: Callable[[str], Tensor]


@contextmanager
def open_container(path: Path, name: str) -> Iterator[Container]:
    """Open a safetensors file; no tensor is read until `load` is called.

    Args:
        name: what the user calls it.

    Raises:
        NetworkError: the file is missing, unreadable, beyond a limit, or no valid safetensors file.
    """
    _check_length(path)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            tensors = _header(name, handle)
            # A copy, because the tensor lies in the mapped file, which may be replaced at any time.
            yield Container(
                name, tensors, handle.metadata() or {}, lambda key: handle.get_tensor(key).clone()
            )
    except SafetensorError as error:
        problem = f"is not a valid safetensors file ({printable(str(error))})"
        raise NetworkError(path.name, problem, AGAIN) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def starts_of(path: Path, keys: Iterable[str]) -> dict[str, int]:
    """Return where each tensor's bytes begin in a file that `open_container` has found valid.

    Args:
        keys: the tensors that it had then.

    Raises:
        NetworkError: it is not what it was then.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            header = json.loads(file.read(min(length, HEADER_BYTES_MAX)))
        return {key: LENGTH_BYTES + length + int(header[key]["data_offsets"][0]) for key in keys}
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise NetworkError(path.name, "was changed while it was read", "try again") from error


def _check_length(path: Path) -> None:
    """Refuse what is no file or whose header cannot be as long as it says: the library would map it first."""
    try:
        if not path.exists():
            folder = printable(str(path.parent))
            raise NetworkError(path.name, f"there is no such file in {folder}", "check the name")
        if not path.is_file():
            raise NetworkError(path.name, "is not a file", "choose a .safetensors file")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(LENGTH_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not size:
        raise NetworkError(path.name, "is empty", AGAIN)
    length = int.from_bytes(head, "little")
    if size <= LENGTH_BYTES or length > min(HEADER_BYTES_MAX, size - LENGTH_BYTES):
        raise NetworkError(path.name, _length_problem(head, length, size), AGAIN)


def _length_problem(head: bytes, length: int, size: int) -> str:
    for start, problem in LOOKALIKES.items():
        if head.startswith(start):
            return problem
    return (
        f"is damaged or no safetensors file: its header should have {length} bytes, but the file has {size} "
        f"bytes and at most {HEADER_BYTES_MAX} are allowed"
    )


def _unreadable(path: Path, error: OSError) -> NetworkError:
    return NetworkError(
        path.name, f"cannot be read ({error.strerror or type(error).__name__})", "check its permissions"
    )


def _header(name: str, handle: Any) -> dict[str, Header]:
    keys = handle.keys()
    if len(keys) > TENSORS_MAX:
        problem = f"has {len(keys)} tensors, at most {TENSORS_MAX} are allowed"
        raise NetworkError(name, problem, "choose a LoRA file")
    tensors = {}
    for key in keys:
        if len(key) > KEY_LENGTH_MAX:
            problem = f"a tensor's name has {len(key)} characters, at most {KEY_LENGTH_MAX} are allowed"
            raise NetworkError(name, problem, AGAIN)
        view = handle.get_slice(key)
        tensors[key] = Header(key, tuple(view.get_shape()), str(view.get_dtype()))
    return tensors
