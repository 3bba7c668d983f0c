"""What is fuzzed: each target takes bytes, and raises only for a fault."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.reading import read_picture
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import PngTextError, parse
from lib_pg.formats import NetworkError, read_network
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.container import starts_of
from lib_pg.formats.outline import family_of_checkpoint, outline_network
from lib_pg.infotext import from_infotext
from lib_pg.page.paste import Complaint
from lib_pg.page.presets import PresetError, PresetStore
from lib_pg.prompt import parse_networks, split_tags
from lib_pg.settings import Settings, SettingsError
from tests.formats.hostile_files import tensors_of
from tests.hostile.files import check_message
from tests.hostile.mutations import joined

DATA_MAX = 1 << 16

_FOLDER = Path(tempfile.gettempdir())


def network(content: bytes, folder: Path = _FOLDER) -> None:
    """A file as it is."""
    path = folder / "fuzzed.safetensors"
    path.write_bytes(content)
    for read in (outline_network, family_of_checkpoint, open_checkpoint):
        try:
            read(path)
        except NetworkError as error:
            check_message(error)
    with suppress(NetworkError):
        starts_of(path, ["a"])
    try:
        found = read_network(path)
    except NetworkError as error:
        check_message(error)
        return
    tensors = [tensor for delta in found.layers.values() for tensor in tensors_of(delta)]
    assert tensors and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def header(content: bytes, folder: Path = _FOLDER) -> None:
    """A header alone: as many zeros follow as it says, so that it may be valid."""
    end = 0
    with suppress(ValueError, RecursionError, TypeError, AttributeError, LookupError, OverflowError):
        end = max(
            int(value["data_offsets"][1]) for key, value in json.loads(content).items() if key[:1] != "_"
        )
    network(joined(content, bytes(min(max(end, 0), DATA_MAX))), folder)


def picture(content: bytes, folder: Path = _FOLDER) -> None:
    path = folder / "fuzzed.png"
    path.write_bytes(content)
    with suppress(PngTextError):
        text(read_parameters(path).encode("utf-8", "surrogatepass"), folder)


def text(content: bytes, folder: Path = _FOLDER) -> None:
    """Parameters of a picture, and a prompt."""
    given = content.decode("utf-8", "surrogateescape")
    parse_networks(given)
    split_tags(given)
    with suppress(PngTextError):
        found = parse(given)
        with suppress(SettingsError):
            from_infotext(found.pairs)
        with suppress(UsageError):
            read_picture(found, {})
        assert "<script" not in Complaint()(found.pairs)


def presets(content: bytes, folder: Path = _FOLDER) -> None:
    (folder / "presets.json").write_bytes(content)
    store = PresetStore(folder)
    for name in store.names():
        with suppress(PresetError):
            store.get(name)
    with suppress(PresetError):
        store.save("fuzzed", Settings())
        assert "fuzzed" in store.names()


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    each.__name__: each for each in (network, header, picture, text, presets)
}
