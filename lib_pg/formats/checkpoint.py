"""Another checkpoint's weights, read layer by layer beside a loaded model: what a fine-tune started from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lib_pg.deltas.base import Parameters
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.deltas.kind import BYTES, Header
from lib_pg.deltas.shapes import is_same
from lib_pg.deltas.truncated import Truncated, truncate
from lib_pg.formats.checkpoint_names import Place, original_name, places
from lib_pg.formats.container import open_container
from lib_pg.formats.errors import NetworkError, counted, printable

ADVICE = "choose the checkpoint that the loaded one was trained from, as .safetensors"
# Folders of diffusers, and the names their weights have there, whole or in parts.
_FOLDERS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_model|model)(\.fp16)?(?:-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True)
class _Tensor:
    """A tensor in one of a checkpoint's files, and when that file was last changed."""

    file: Path
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
    tensors: Mapping[str, Mapping[str, _Tensor]]

    def of(self, component: str) -> Mapping[str, _Tensor]:
        return self.tensors.get("" if self.single else component, {})


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model, and where a checkpoint has it.

    Attributes:
        part: the part of a network that it is: unet, or a text encoder.
        component: unet, te1 or te2 where its modules are named as diffusers and transformers do.
        module: the model itself.
        prefix: what stands before its modules' own names in a single file, where those are the original ones.
    """

    part: str
    component: str
    module: nn.Module
    prefix: str | None = None

    @property
    def is_unet(self) -> bool:
        return self.component == "unet"


@dataclass(frozen=True, eq=False)
class Difference:
    """What a fine-tune has moved in one model.

    Attributes:
        deltas: by layer, those that differ from the base.
        equal: number of layers that do not.
        whole, lost: squares of all differences that were cut to a low rank, and of what was lost with that.
    """

    deltas: Mapping[nn.Module, FineTune | Truncated]
    equal: int
    whole: float = 0.0
    lost: float = 0.0


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


def difference(
    checkpoint: Checkpoint,
    called: str,
    model: Model,
    own: Callable[[nn.Module], Parameters],
    rank: int = 0,
) -> Difference | None:
    """Compare a loaded model with its base, one parameter after the other.

    Args:
        called: what the user calls the model.
        own: returns a layer's parameters in the loaded checkpoint, without any network.
        rank: to which differences of a U-Net's linear layers and convolutions are cut, where that takes less
            than a second weight; 0 for none.

    Returns:
        None where the base has nothing of this model.

    Raises:
        NetworkError: it is for another architecture, incomplete or quantised, or a value is not finite.
    """
    tensors = checkpoint.of(model.component)
    layers = dict(_layers(model.module))
    found = _places(checkpoint, model, layers)
    there = {name: place for name, place in found.items() if place.key in tensors}
    if not there and not model.is_unet:
        return None
    missing = [
        found[path, name].key
        for path, name in found
        if (path, name) not in there and not _is_spare(path, name)
    ]
    if missing:
        problem = (
            f"holds {len(there)} of {counted(len(found), 'parameter')} of the loaded model's {called} (not "
            f"{printable(missing[0])}): it is for another architecture or incomplete"
        )
        raise NetworkError(checkpoint.name, problem, ADVICE)
    deltas: dict[nn.Module, FineTune | Truncated] = {}
    equal, whole, lost = 0, 0.0, 0.0
    for path, (module, names) in layers.items():
        sources = {
            name: _Source(
                checkpoint.name, tensors[there[path, name].key], there[path, name], _shape(module, name)
            )
            for name in names
            if (path, name) in there
        }
        parameters = own(module)
        moved = {
            name: source for name, source in sources.items() if not _is_equal(source.load(), parameters[name])
        }
        if not moved:
            equal += 1
        elif rank and model.is_unet and "weight" in moved and _saves(module, rank):
            change = {
                name: _float(parameters[name]) - source.load().float() for name, source in moved.items()
            }
            deltas[module], missed = truncate(change["weight"], change.get("bias"), rank)
            whole, lost = whole + float(change["weight"].square().sum()), lost + missed
        else:
            deltas[module] = _fine_tune(module, own, moved)
    return Difference(deltas, equal, whole, lost)


def _saves(module: nn.Module, rank: int) -> bool:
    """Whether two factors are at most half of a layer's weight."""
    if not isinstance(module, nn.Linear) and not (isinstance(module, nn.Conv2d) and module.groups == 1):
        return False
    rows, columns = module.weight.flatten(1).shape
    return 2 * rank * (rows + columns) <= rows * columns


def _float(value: Tensor | None) -> Tensor:
    assert value is not None
    return value.detach().float().cpu()


def _layers(model: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, list[str]]]]:
    """Yield all modules with parameters, by path, and the parameters' names.

    torch's attention uses the parameters of its output layer without calling it: they are its own here.
    """
    inside = {module.out_proj for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    for path, module in model.named_modules():
        if module in inside:
            continue
        names = [name for name, value in module._parameters.items() if value is not None]
        if isinstance(module, nn.MultiheadAttention):
            names += [f"out_proj.{name}" for name, _ in module.out_proj.named_parameters()]
        if names:
            yield path, (module, names)


def _places(
    checkpoint: Checkpoint, model: Model, layers: Mapping[str, tuple[nn.Module, list[str]]]
) -> dict[tuple[str, str], Place]:
    names = [(path, name) for path, (_, own) in layers.items() for name in own]
    if model.prefix is None:
        tensors = checkpoint.of(model.component)
        return places(model.component, model.module, names, tensors, checkpoint.single)
    return {(path, name): Place(original_name(model.prefix, path, name)) for path, name in names}


def _is_spare(path: str, name: str) -> bool:
    """Whether many files lack a parameter, which then is what it is in the loaded checkpoint."""
    return name == "logit_scale" or "text_projection" in f"{path}.{name}"


def _fine_tune(
    module: nn.Module, own: Callable[[nn.Module], Parameters], sources: Mapping[str, _Source]
) -> FineTune:
    return FineTune(lambda: own(module), lambda: {name: source.load() for name, source in sources.items()})


def _shape(module: nn.Module, name: str) -> tuple[int, ...]:
    return tuple(module.get_parameter(name).shape)


def _is_equal(base: Tensor, own: Tensor | None) -> bool:
    return own is not None and torch.equal(base.to(own.dtype), own.detach().to(base.device))


class _Source:
    """One parameter of the base.

    Args:
        shape: what the loaded model's parameter has.

    Raises:
        NetworkError: its own shape or type is another.
    """

    def __init__(self, checkpoint: str, tensor: _Tensor, place: Place, shape: tuple[int, ...]) -> None:
        self._checkpoint = checkpoint
        self._tensor = tensor
        self._place = place
        self._shape = shape
        header = tensor.header
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
        """Return it in the loaded model's shape and its own type."""
        tensor = self._tensor
        try:
            if os.stat(tensor.file).st_mtime_ns != tensor.changed:
                raise self._error("cannot be read: the file was changed while it was in use")
            with safe_open(str(tensor.file), framework="pt", device="cpu") as handle:
                value: Tensor = handle.get_tensor(tensor.header.key).clone()
        except (OSError, SafetensorError) as error:
            raise self._error(f"cannot be read ({printable(str(error))})") from error
        if not bool(torch.isfinite(torch.stack(torch.aminmax(value.float()))).all()):
            raise self._error("holds values that are not finite (NaN or infinity)")
        if self._place.turned:
            value = value.t()
        if self._place.third is not None:
            value = value.chunk(3)[self._place.third]
        if self._lacks_mask():
            value = nn.functional.pad(value, (0, 0, 0, 0, 0, self._shape[1] - value.shape[1]))
        return value.reshape(self._shape)

    def _lacks_mask(self) -> bool:
        """Whether only the loaded model is for inpainting: to its base, mask and picture add nothing."""
        stored, shape = self._stored, self._shape
        return (
            len(stored) == len(shape) == 4
            and (stored[1], shape[1]) == (4, 9)
            and ((stored[0], *stored[2:]) == (shape[0], *shape[2:]))
        )

    def _error(self, problem: str) -> NetworkError:
        return NetworkError(self._checkpoint, f"its {printable(self._tensor.header.key)} {problem}", ADVICE)


def _tensors(file: Path, name: str) -> dict[str, _Tensor]:
    with open_container(file, name) as container:
        changed = os.stat(file).st_mtime_ns
        return {key: _Tensor(file, changed, header) for key, header in container.tensors.items()}


def _weights(folder: Path) -> list[Path]:
    """Return a component's files: those of full precision where there are two sets."""
    if not folder.is_dir():
        return []
    found = [(path, match) for path in sorted(folder.iterdir()) if (match := _WEIGHTS.fullmatch(path.name))]
    full = [path for path, match in found if not match[1]]
    return full or [path for path, _ in found]
