"""A network's layers on the live layers of loaded models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lib_pg.deltas import Delta
from lib_pg.deltas.base import ShapeError
from lib_pg.formats.container import AGAIN
from lib_pg.formats.errors import NetworkError, counted, listed, printable
from lib_pg.formats.family import UNKNOWN, family_of_widths
from lib_pg.formats.keys import UNRECOGNISED, LayerKey, flat_name
from lib_pg.formats.ldm import ldm_names
from lib_pg.formats.live import live_modules
from lib_pg.formats.read import NetworkFile

COMPONENTS = {"unet": "U-Net", "te1": "text encoder", "te2": "second text encoder"}


@dataclass(frozen=True, eq=False)
class Match:
    """Where a network goes in loaded models.

    Attributes:
        name: the network's name.
        deltas: by live layer, for each component that was given; empty where the network leaves it alone.
        unmatched: the file's layers that fit nothing, each with its reason.
        unsupported: number of layers by kind of tensor that is not read.
    """

    name: str
    deltas: Mapping[str, Mapping[nn.Module, Delta]]
    unmatched: tuple[str, ...]
    unsupported: Mapping[str, int]

    def summary(self) -> str:
        """Return one sentence for the user: what was matched, and what was left out and why."""
        counts = [f"{len(layers)} in the {_called(component)}" for component, layers in self.deltas.items()]
        total = sum(len(layers) for layers in self.deltas.values())
        clauses = [f"{printable(self.name)}: {counted(total, 'layer')} matched ({', '.join(counts)})"]
        if self.unmatched:
            clauses.append(f"{counted(len(self.unmatched), 'layer')} left out: {listed(self.unmatched)}")
        for kind, count in self.unsupported.items():
            why = "unknown names" if kind == UNRECOGNISED else "tensors of this kind are not read"
            clauses.append(f"{counted(count, f'{kind} layer')} left out: {why}")
        return "; ".join(clauses) + "."


def match(network: NetworkFile, models: Mapping[str, nn.Module]) -> Match:
    """Find the live layer of each layer in a network, whose deltas are given the shape of its weight.

    Args:
        network: what `read_network` returned.
        models: all models that are loaded: 'unet' a diffusers UNet2DConditionModel, 'te1' and 'te2' CLIP text
            models of transformers.

    Raises:
        NetworkError: no layer fits, or none of the U-Net's (the network is for other models), or two of its
            layers are one.
    """
    indexes = {component: _index(component, model) for component, model in models.items()}
    deltas: dict[str, dict[nn.Module, Delta]] = {component: {} for component in models}
    unmatched = []
    taken: dict[nn.Module, LayerKey] = {}
    for key, delta in network.layers.items():
        module = indexes.get(key.component, {}).get(key.layer)
        fitted = _absent(key, models) if module is None else _fitted(delta, module)
        if module is None or isinstance(fitted, str):
            unmatched.append(f"{printable(str(key))} ({fitted})")
            continue
        if module in taken:
            names = f"{printable(str(taken[module]))} and {printable(str(key))}"
            raise NetworkError(network.name, f"has two names for one layer, {names}", AGAIN)
        taken[module] = key
        deltas[key.component][module] = fitted
    # A text encoder may fit by chance: SDXL's first is the one of SD 1.x.
    strange_unet = not deltas.get("unet", True) and any(key.component == "unet" for key in network.layers)
    if not taken or strange_unet:
        of_unet = (each for each in unmatched if each.startswith("unet "))
        raise _no_fit(network, indexes.get("unet", {}), next(of_unet, unmatched[0]))
    unsupported = {kind: len(layers) for kind, layers in network.unsupported.items()}
    return Match(network.name, deltas, tuple(unmatched), unsupported)


def _index(component: str, model: nn.Module) -> dict[str, nn.Module]:
    """Return all modules by flat name, those of a U-Net by their original names as well."""
    modules = dict(live_modules(model))
    index = {flat_name(component, path): module for path, module in modules.items()}
    if component == "unet":
        index.update((flat_name(component, name), modules[path]) for name, path in ldm_names(modules).items())
    return index


def _absent(key: LayerKey, models: Mapping[str, nn.Module]) -> str:
    if key.component in models:
        return "the model has no such layer"
    return f"the model has no {_called(key.component)}"


def _called(component: str) -> str:
    return COMPONENTS.get(component) or printable(component)


def _fitted(delta: Delta, module: nn.Module) -> Delta | str:
    """Return the delta in the shape of the module's weight, or the reason why it does not fit."""
    shape = _weight_shape(module)
    if shape is None:
        return f"the model's layer is a {type(module).__name__}, which has no weight"
    try:
        return delta.fitted(shape)
    except ShapeError as error:
        return str(error)


def _weight_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of the weight, quantised or not."""
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    weight = module._parameters.get("weight")
    return None if weight is None else tuple(weight.shape)


def _no_fit(network: NetworkFile, unet: Mapping[str, nn.Module], first: str) -> NetworkError:
    linears = ((name, layer) for name, layer in unet.items() if isinstance(layer, nn.Linear))
    own = family_of_widths((name, layer.in_features) for name, layer in linears)
    problem = f"does not fit the loaded model: it seems to be for {_named(network.family)}"
    if own != UNKNOWN:
        problem += f", the loaded model is {own}"
    advice = "choose a network made for the loaded model"
    if network.family != UNKNOWN and network.family != own:
        advice = f"load a model of the {network.family} family, or {advice}"
    return NetworkError(
        network.name, f"{problem} (first of {counted(len(network.layers), 'layer')}: {first})", advice
    )


def _named(family: str) -> str:
    return "an unknown model family" if family == UNKNOWN else family
