"""Files' short hashes, as WebUIs write them."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 1 << 20
# What WebUIs call a network's hash leaves the header of its file out, and has more digits.
WITHOUT_HEADER = 12


def fingerprint(path: Path, digits: int = 10) -> str:
    """Return the first digits of the SHA-256 of a file, or of all weights in a folder.

    With 12 digits, those of networks in WebUIs, the header of a .safetensors file does not count.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            if digits == WITHOUT_HEADER:
                stream.seek(8 + int.from_bytes(stream.read(8), "little"))
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:digits]
