"""The parameters text in picture files: written to PNG, read from PNG, JPEG and WebP."""

from __future__ import annotations

import io
import os
import struct
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo, iTXt

from lib_pg.cli.png_text import PngTextError, check_size, check_text

FORMATS = ("PNG", "JPEG", "WEBP")

_CHUNK = "parameters"
# What other programs write beside or instead: their workflow, not a list of parameters.
_WORKFLOWS = {
    "workflow": "a ComfyUI workflow",
    "prompt": "a ComfyUI workflow",
    "Comment": "NovelAI's or another program's comment",
}
# What Pillow raises for a file that is no picture, or a damaged one.
DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"


def png_with(image: Image.Image, text: str) -> bytes:
    """Return an image as PNG with this text.

    Raises:
        PngTextError: over 1 MiB, a NUL or half of a surrogate pair.
    """
    check_text(text)
    info = PngInfo()
    if text.isascii():
        info.add_text(_CHUNK, text)
    else:  # the plain chunk is Latin-1, in which `Ã¤` could not be told from `ä` that others wrote as UTF-8
        info.add_itxt(_CHUNK, text)
    stream = io.BytesIO()
    image.save(stream, format="PNG", pnginfo=info)
    return stream.getvalue()


def read_parameters(path: str | os.PathLike[str]) -> str:
    """Return the parameters text of a picture, which is not decoded.

    It is the chunk `parameters` of a PNG, or the EXIF user comment, as WebUIs write it to JPEG and WebP.

    Raises:
        PngTextError: no readable picture, no such text before the picture, or one over 1 MiB.
    """
    name = os.fspath(path)
    try:
        with Image.open(name, formats=FORMATS) as image:
            info = dict(image.info)
            # Pillow would decode a PNG to look for EXIF behind the picture.
            text = _chunk(info.get(_CHUNK)) if image.format == "PNG" else _user_comment(image)
    except DAMAGED as error:
        raise PngTextError(f"{name!r} cannot be read as a PNG, JPEG or WebP: {error}") from error
    if text is None:
        raise PngTextError(f"{name!r} has no generation parameters; {_advice(info)}")
    check_size(text)
    return text


def _chunk(text: Any) -> str | None:
    """Return a chunk's text; one that is not marked as UTF-8 and still is UTF-8 was written so by mistake."""
    if not isinstance(text, str):
        return None
    if isinstance(text, iTXt):
        return str(text)
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _user_comment(image: Image.Image) -> str | None:
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(comment, str):
        return comment or None
    if not isinstance(comment, bytes):
        return None
    code, data = comment[:8], comment[8:]
    if code == _UNICODE:
        # UTF-16 of either byte order: parameters are mostly Latin letters, whose high byte is 0
        low_first = data[1::2].count(0) > data[::2].count(0)
        return data.decode("utf-16-le" if low_first else "utf-16-be").removeprefix("\ufeff") or None
    if code == _ASCII or not any(code):
        return data.decode("utf-8") or None
    return comment.decode("utf-8") or None


def _advice(info: dict[Any, Any]) -> str:
    for key, what in _WORKFLOWS.items():
        if key in info:
            return f"it has {what}, which is not read; give its settings as options"
    return "choose an image as the program or a WebUI saved it"
