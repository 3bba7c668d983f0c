"""Files' short hashes, as WebUIs write them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_BLOCK = 1 << 20
# What WebUIs call a network's hash leaves the header of its file out, and has more digits.
WITHOUT_HEADER = 12
_WEIGHTS = "*.safetensors"
_OF_MODELS = (".safetensors", ".json", ".txt")


def fingerprint(path: Path, digits: int = 10) -> str:
    """Return the first digits of the SHA-256 of a file, or of all weights in a folder.

    With 12 digits, those of networks in WebUIs, the header of a .safetensors file does not count.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob(_WEIGHTS)) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            if digits == WITHOUT_HEADER:
                # A file that is no .safetensors may begin with a length that lies beyond every end.
                header = 8 + int.from_bytes(stream.read(8), "little")
                stream.seek(min(header, file.stat().st_size))
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:digits]


def state(path: Path) -> tuple[object, ...]:
    """Return what changes with a file, or with a model's files in a folder: their sizes, and when written.

    Others may replace a file while a program that has read it runs on. What is not there has a state, too.
    """
    files = [path]
    if os.path.isdir(path):  # the method of a path raises where a name is too long
        inside = [*path.glob("*"), *path.glob("*/*")]  # no deeper lie those of diffusers and of PEFT
        files = sorted(file for file in inside if file.suffix in _OF_MODELS)
    return path, *(_written(file) for file in files)


def _written(file: Path) -> tuple[object, ...]:
    try:
        found = file.stat()
    except OSError:
        return (file,)
    return file, found.st_size, found.st_mtime_ns
