"""A loaded model against the checkpoint it started from, layer by layer: what a full fine-tune is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Parameters
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.deltas.truncated import Truncated, truncate
from lib_pg.formats.checkpoint import ADVICE, Checkpoint, Source
from lib_pg.formats.checkpoint_names import Place, original_name, places
from lib_pg.formats.errors import NetworkError, counted, printable
from lib_pg.formats.live import live_modules

_FIRST = 4096  # values that are read before all others


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
    sources = _sources(checkpoint, called, model, own)
    if sources is None:
        return None
    deltas: dict[nn.Module, FineTune | Truncated] = {}
    equal, whole, lost = 0, 0.0, 0.0
    for module, stored in sources.items():
        parameters = own(module)
        moved = {name: each for name, each in stored.items() if _has_moved(each, parameters[name])}
        if not moved:
            equal += 1
        elif rank and model.is_unet and "weight" in moved and _saves(module, rank):
            change = {name: _float(parameters[name]) - each.load().float() for name, each in moved.items()}
            deltas[module], missed = truncate(change["weight"], change.get("bias"), rank)
            whole, lost = whole + float(change["weight"].square().sum()), lost + missed
        else:
            deltas[module] = FineTune(partial(own, module), moved)
    return Difference(deltas, equal, whole, lost)


def parameters_used(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that a layer uses itself, by name.

    torch's attention uses those of its output layer without calling it: they are its own here.
    """
    own = {name: value for name, value in module._parameters.items() if value is not None}
    if isinstance(module, nn.MultiheadAttention):
        own |= {f"out_proj.{name}": value for name, value in module.out_proj.named_parameters()}
    return own


def _sources(
    checkpoint: Checkpoint, called: str, model: Model, own: Callable[[nn.Module], Parameters]
) -> dict[nn.Module, dict[str, Source]] | None:
    """Return where the base has every parameter, by layer; all shapes are checked, nothing is read."""
    tensors = checkpoint.of(model.component)
    inside = {
        module.out_proj
        for _, module in live_modules(model.module)
        if isinstance(module, nn.MultiheadAttention)
    }
    layers = {
        path: (module, used)
        for path, module in live_modules(model.module)
        if module not in inside and (used := parameters_used(module))
    }
    found = _places(checkpoint, model, [(path, name) for path, (_, used) in layers.items() for name in used])
    there = {name: place for name, place in found.items() if place.key in tensors}
    if not there and not model.is_unet:
        return None
    missing = [
        place.key
        for (path, name), place in found.items()
        if (path, name) not in there
        and not _is_spare(path, name)
        and own(layers[path][0])[name] is not None  # a network may have given a layer its bias
    ]
    if missing:
        problem = (
            f"holds {len(there)} of {counted(len(found), 'parameter')} of the loaded model's {called} (not "
            f"{printable(missing[0])}): it is for another architecture or incomplete"
        )
        raise NetworkError(checkpoint.name, problem, ADVICE)
    return {
        module: {
            name: Source(checkpoint.name, tensors[place.key], place, tuple(value.shape))
            for name, value in used.items()
            if (place := there.get((path, name)))
        }
        for path, (module, used) in layers.items()
    }


def _saves(module: nn.Module, rank: int) -> bool:
    """Whether two factors are at most half of a layer's weight."""
    if not isinstance(module, nn.Linear) and not (isinstance(module, nn.Conv2d) and module.groups == 1):
        return False
    rows, columns = module.weight.flatten(1).shape
    return 2 * rank * (rows + columns) <= rows * columns


def _float(value: Tensor | None) -> Tensor:
    assert value is not None
    return value.detach().float().cpu()


def _places(
    checkpoint: Checkpoint, model: Model, names: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Place]:
    if model.prefix is None:
        tensors = checkpoint.of(model.component)
        return places(model.component, model.module, names, tensors, checkpoint.single)
    return {(path, name): Place(original_name(model.prefix, path, name)) for path, name in names}


def _is_spare(path: str, name: str) -> bool:
    """Whether many files lack a parameter, which then is what it is in the loaded checkpoint."""
    return name == "logit_scale" or "text_projection" in f"{path}.{name}"


def _has_moved(source: Source, own: Tensor | None) -> bool:
    """Compare a parameter with the base's: the first values nearly always tell, and the rest is not read."""
    values = None if own is None else own.detach().reshape(-1)
    start = 0
    for first, last in ((0, _FIRST), (_FIRST, None)):
        for piece in source.pieces(first, last):
            if values is None or not _is_equal(piece, values[start : start + len(piece)]):
                return True
            start += len(piece)
        if values is not None and start == len(values):
            break
    return False


def _is_equal(base: Tensor, own: Tensor) -> bool:
    return torch.equal(base.to(own.device, own.dtype), own)
