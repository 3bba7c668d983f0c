"""Another checkpoint's files, read tensor by tensor beside a loaded model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib_pg.deltas.kind import BYTES, FactorError, Header, finite
from lib_pg.deltas.pieces import pieces
from lib_pg.deltas.shapes import is_same
from lib_pg.formats.checkpoint_names import Place
from lib_pg.formats.container import open_container, starts_of
from lib_pg.formats.errors import NetworkError, printable

ADVICE = "choose the checkpoint that the loaded one was trained from, as .safetensors"
_PIECE = 1 << 19  # bytes that are read at once, where not all are kept
_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
# Folders of diffusers, and the names their weights have there, whole or in parts.
_FOLDERS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(\.fp16)?(?:-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True)
class Stored:
    """A tensor in one of a checkpoint's files, where its bytes begin, and when that file was last changed."""

    file: Path
    start: int
    changed: int
    header: Header


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint whose headers have been read, and no tensor.

    Attributes:
        name: what the user calls it.
        single: whether it is one file with a whole pipeline, by the original names.
        tensors: by component, or all under "" of a single file.
    """

    name: str
    single: bool
    tensors: Mapping[str, Mapping[str, Stored]]

    def of(self, component: str) -> Mapping[str, Stored]:
        return self.tensors.get("" if self.single else component, {})


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the headers of a .safetensors file, or of a folder in diffusers format.

    Raises:
        NetworkError: it is missing, damaged, no safetensors, or holds no model.
    """
    path = Path(path)
    if not path.is_dir():
        return Checkpoint(path.stem, True, {"": _tensors(path, path.stem)})
    tensors = {}
    for component, folder in _FOLDERS.items():
        files = _weights(path / folder)
        tensors[component] = {
            key: tensor for file in files for key, tensor in _tensors(file, path.name).items()
        }
    if not tensors["unet"]:
        problem = f"is a folder without {_FOLDERS['unet']}/diffusion_pytorch_model.safetensors"
        raise NetworkError(path.name, problem, ADVICE)
    return Checkpoint(path.name, False, tensors)


class Source:
    """One parameter of the base.

    Args:
        shape: what the loaded model's parameter has.

    Raises:
        NetworkError: its own shape or type is another.
    """

    def __init__(self, checkpoint: str, tensor: Stored, place: Place, shape: tuple[int, ...]) -> None:
        self._checkpoint = checkpoint
        self._tensor = tensor
        self._place = place
        self._shape = shape
        header = tensor.header
        self._key = printable(header.key)
        if header.dtype not in BYTES:
            raise self._error(f"is stored as {header.dtype}, expected F16, BF16, F32 or F64")
        stored = header.shape[::-1] if place.turned else header.shape
        if place.third is not None and stored and stored[0] % 3 == 0:
            stored = (stored[0] // 3, *stored[1:])
        self._stored = stored
        if not is_same(stored, shape) and not self._lacks_mask():
            raise self._error(
                f"has the shape {stored}, but the loaded model's is {shape}: it is for another architecture"
            )

    def load(self) -> Tensor:
        """Return it in the loaded model's shape and its own type, float32 where that is float64.

        The bytes are read as they are: opening the file with its library reads the header every time, which
        takes longer than most tensors, and a mapped file must not be replaced.
        """
        header = self._tensor.header
        content = np.empty(header.nbytes, np.uint8)
        for _ in self._read(content, len(content)):
            pass
        value = self._checked(torch.from_numpy(content).view(_TYPES[header.dtype]).reshape(header.shape))
        if value.dtype == torch.float64:
            value = value.float()
        if self._place.turned:
            value = value.t()
        if self._place.third is not None:
            value = value.chunk(3)[self._place.third]
        if self._lacks_mask():
            value = nn.functional.pad(value, (0, 0, 0, 0, 0, self._shape[1] - value.shape[1]))
        return value.reshape(self._shape)

    @property
    def splits(self) -> bool:
        """Whether its values are in the file as they are in the loaded model."""
        return not self._place.turned and self._place.third is None and not self._lacks_mask()

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[Tensor]:
        """Yield its values in order, flat, in its own type; a piece is valid until the next is asked for.

        Fresh memory for all of it would take longer than to read it.

        Args:
            first, last: the values wanted, to before the last; without it all that come.

        Raises:
            NetworkError: as for `load`.
        """
        header = self._tensor.header
        if not self.splits:
            yield from pieces(self.load().reshape(-1)[first:last])
            return
        width = BYTES[header.dtype]
        end = header.nbytes if last is None else min(last * width, header.nbytes)
        total = max(0, end - first * width)
        buffer = np.empty(min(total, _PIECE), np.uint8)
        for count in self._read(buffer, total, first * width):
            yield self._checked(torch.from_numpy(buffer[:count]).view(_TYPES[header.dtype]))

    def _read(self, buffer: np.ndarray, total: int, skipped: int = 0) -> Iterator[int]:
        """Fill `buffer` again and again with what comes next of `total` bytes; yield how many it has."""
        tensor = self._tensor
        try:
            if os.stat(tensor.file).st_mtime_ns != tensor.changed:
                raise self._error("cannot be read: the file was changed while it was in use")
            with open(tensor.file, "rb", buffering=0) as file:
                file.seek(tensor.start + skipped)
                while total:
                    wanted, count = buffer.data[:total], 0
                    while count < len(wanted):
                        got = file.readinto(wanted[count:])
                        if not got:
                            raise self._error("cannot be read: the file is shorter than its header says")
                        count += got
                    total -= count
                    yield count
        except OSError as error:
            raise self._error(f"cannot be read ({printable(str(error))})") from error

    def _checked(self, value: Tensor) -> Tensor:
        try:
            finite(self._key, value)
        except FactorError as error:
            raise NetworkError(self._checkpoint, str(error), ADVICE) from error
        return value

    def _lacks_mask(self) -> bool:
        """Whether only the loaded model is for inpainting: to its base, mask and picture add nothing."""
        stored, shape = self._stored, self._shape
        return (
            len(stored) == len(shape) == 4
            and (stored[1], shape[1]) == (4, 9)
            and ((stored[0], *stored[2:]) == (shape[0], *shape[2:]))
        )

    def _error(self, problem: str) -> NetworkError:
        return NetworkError(self._checkpoint, f"its {self._key} {problem}", ADVICE)


def _tensors(file: Path, name: str) -> dict[str, Stored]:
    with open_container(file, name) as container:
        changed, starts = os.stat(file).st_mtime_ns, starts_of(file, container.tensors)
        return {key: Stored(file, starts[key], changed, header) for key, header in container.tensors.items()}


def _weights(folder: Path) -> list[Path]:
    """Return a component's files: those of full precision where there are two sets."""
    if not folder.is_dir():
        return []
    found = [(path, match) for path in sorted(folder.iterdir()) if (match := _WEIGHTS.fullmatch(path.name))]
    full = [path for path, match in found if not match[1]]
    return full or [path for path, _ in found]
