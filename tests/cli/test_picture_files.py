"""Parameters in picture files: what was written is read, from PNG, JPEG and WebP, whoever wrote it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from lib_pg.cli.picture_files import png_with, read_parameters
from lib_pg.cli.png_text import MAX_TEXT_BYTES, PngTextError, compose

LIMIT = MAX_TEXT_BYTES
PAIRS = {"Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": "1", "Size": "64x64", "PG mode": "PG"}


def _png(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    """A 1x1 PNG with these chunks before the picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    body = b"".join(chunk(kind, data) for kind, data in chunks)
    picture = chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + picture)
    return path


TEXT = "a dog, \u00e4 \u72ac\nSteps: 2, Sampler: Euler, CFG scale: 7"
COMMENTS = {
    "UTF-16 as WebUIs write it": b"UNICODE\0" + TEXT.encode("utf-16-be"),
    "UTF-16 the other way round": b"UNICODE\0" + TEXT.encode("utf-16-le"),
    "UTF-16 with a mark": b"UNICODE\0" + b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "UTF-8 under ASCII": b"ASCII\0\0\0" + TEXT.encode(),
    "no code": bytes(8) + TEXT.encode(),
    "bare UTF-8": TEXT.encode(),
}


def _with_comment(path: Path, comment: bytes) -> Path:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["jpg", "webp"])
@pytest.mark.parametrize("comment", COMMENTS)
def test_the_user_comment_is_read(tmp_path: Path, ending: str, comment: str) -> None:
    assert read_parameters(_with_comment(tmp_path / f"a.{ending}", COMMENTS[comment])) == TEXT


def test_a_picture_with_an_empty_comment_has_no_parameters(tmp_path: Path) -> None:
    for number, comment in enumerate((b"UNICODE\0", b"", bytes(8))):
        with pytest.raises(PngTextError, match="no generation parameters"):
            read_parameters(_with_comment(tmp_path / f"{number}.jpg", comment))


def test_utf_8_in_a_latin_1_chunk_is_read_as_it_was_meant(tmp_path: Path) -> None:
    for number, chunk in enumerate(("\u00e4 dog".encode(), b"\xe4 dog")):
        path = _png(tmp_path / f"{number}.png", (b"tEXt", b"parameters\0" + chunk))
        assert read_parameters(path) == "\u00e4 dog"


def test_what_looks_like_utf_8_is_written_so_that_it_stays(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_with(Image.new("L", (1, 1)), "\u00c3\u00a4"))
    assert read_parameters(tmp_path / "a.png") == "\u00c3\u00a4"


def test_a_workflow_is_named(tmp_path: Path) -> None:
    path = _png(tmp_path / "a.png", (b"tEXt", b"prompt\0{}"), (b"tEXt", b"workflow\0{}"))
    with pytest.raises(PngTextError, match="a ComfyUI workflow, which is not read"):
        read_parameters(path)


@hypothesis_settings(deadline=None, max_examples=60)
@given(data=st.data(), ending=st.sampled_from(["jpg", "webp"]))
def test_damaged_exif_gives_nothing_but_png_text_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ending: str
) -> None:
    path = _with_comment(tmp_path_factory.getbasetemp() / f"damaged.{ending}", COMMENTS["bare UTF-8"])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, min(len(content), 160) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert isinstance(read_parameters(path), str)
    except PngTextError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize("prompt", ["a dog", "\u00e4 dog", "\u72ac \U0001f415", "two\nlines"])
def test_image_keeps_text_and_picture(tmp_path: Path, prompt: str) -> None:
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    text = compose(prompt, "x", PAIRS)
    (tmp_path / "a.png").write_bytes(png_with(image, text))
    assert read_parameters(str(tmp_path / "a.png")) == text
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.tobytes() == image.tobytes()


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * (LIMIT + 1)])
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(PngTextError):
        png_with(Image.new("L", (1, 1)), text)


def test_image_without_text_says_so(tmp_path: Path) -> None:
    with pytest.raises(PngTextError, match=r"a\.png' has no generation parameters; "):
        read_parameters(_png(tmp_path / "a.png", (b"tEXt", b"Comment\0x")))


def test_compressed_text_is_read(tmp_path: Path) -> None:
    data = b"parameters\0\0" + zlib.compress(b"a dog")
    assert read_parameters(_png(tmp_path / "a.png", (b"zTXt", data))) == "a dog"


def test_large_text_is_refused(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "x" * (LIMIT + 1))
    Image.new("L", (1, 1)).save(tmp_path / "plain.png", pnginfo=info)
    with pytest.raises(PngTextError, match="over 1 MiB"):
        read_parameters(tmp_path / "plain.png")
    bomb = b"parameters\0\0" + zlib.compress(bytes(64 << 20))
    with pytest.raises(PngTextError, match="cannot be read as a PNG"):
        read_parameters(_png(tmp_path / "bomb.png", (b"zTXt", bomb)))


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "a.gif")
    (tmp_path / "empty.png").touch()
    for name in ("a.gif", "empty.png", "missing.png", "."):
        with pytest.raises(PngTextError, match="cannot be read as a PNG"):
            read_parameters(tmp_path / name)


def test_huge_picture_is_not_decoded(tmp_path: Path) -> None:
    data = _png(tmp_path / "a.png", (b"tEXt", b"parameters\0x")).read_bytes()
    header = b"IHDR" + struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(PngTextError, match="cannot be read as a PNG"):
        read_parameters(tmp_path / "a.png")


@hypothesis_settings(deadline=None)
@given(data=st.data())
def test_damaged_file_gives_nothing_but_png_text_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    chunks = (
        (b"tEXt", b"parameters\0x"),
        (b"iTXt", b"parameters\0\0\0\0\0y"),
        (b"gAMA", bytes(4)),
        (b"pHYs", bytes(9)),
    )
    content = bytearray(_png(path, *chunks).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert isinstance(read_parameters(path), str)
    except PngTextError as error:
        assert "damaged.png" in str(error)


@hypothesis_settings(deadline=None, max_examples=50)
@given(
    kind=st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"pHYs", b"iCCP", b"acTL"]),
    content=st.binary(max_size=24),
)
def test_malformed_chunk_gives_nothing_but_png_text_error(
    tmp_path_factory: pytest.TempPathFactory, kind: bytes, content: bytes
) -> None:
    path = _png(
        tmp_path_factory.getbasetemp() / "malformed.png", (kind, content), (b"tEXt", b"parameters\0x")
    )
    try:
        assert isinstance(read_parameters(path), str)
    except PngTextError as error:
        assert "malformed.png" in str(error)
