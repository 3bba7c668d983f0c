"""Networks written into weights, and taken out again bit for bit: what a WebUI does, where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import ActiveNetwork, Delta, Parameters

# On a layer while networks are merged into it: its parameters as they were, by name.
_ORIGINALS = "personalization_guidance_originals"


def contributions(
    deltas: Sequence[tuple[Delta, ActiveNetwork]], parameters: Parameters
) -> Iterator[dict[str, Tensor]]:
    """Yield what each of a layer's deltas adds, float32, from what those before it have left.

    Args:
        deltas: deltas of one layer, each with its network, in the host's order.
        parameters: the layer's own, without any network.
    """
    for _, added in _chain(deltas, parameters):
        yield added


def weak_contributions(
    deltas: Sequence[tuple[Delta, ActiveNetwork]], ratios: Sequence[float], parameters: Parameters
) -> Iterator[dict[str, Tensor]]:
    """Yield what each of a layer's deltas is to add in the weak branch, float32.

    That is omega times what it adds, or what it would add at a strength of its own.

    Args:
        ratios: omega in [0, 1] for each of the deltas.
    """
    pairs = zip(deltas, ratios, strict=True)
    for ((delta, network), ratio), (below, added) in zip(pairs, _chain(deltas, parameters), strict=True):
        if network.weak_strength is None:
            yield {name: ratio * value for name, value in added.items()}
        else:
            yield delta.contribution(below, network.weak_strength)


def _chain(
    deltas: Sequence[tuple[Delta, ActiveNetwork]], parameters: Parameters
) -> Iterator[tuple[Parameters, dict[str, Tensor]]]:
    """Yield for each delta the parameters below it, and what it adds to them."""
    current = {name: None if value is None else value.detach().float() for name, value in parameters.items()}
    for delta, network in deltas:
        added = delta.contribution(current, network.strength)
        yield current, added
        for name, value in added.items():
            before = current.get(name)
            _check(delta, name, value, before)
            current[name] = value if before is None else before + value.to(before.device)


@torch.no_grad()
def add_networks(networks: Sequence[ActiveNetwork], ratio: float = 1.0) -> None:
    """Add `ratio` of what every network contributes to the weights of its layers, summed in float32.

    Args:
        networks: what to add; several may share a layer. Each is applied to what those before it have left.
        ratio: omega in [0, 1]; 1 gives the personalised model, less gives
            theta_w = theta_pre + omega * (theta_ft - theta_pre) when the weights are theta_pre.
    """
    for module, deltas in _by_layer(networks).items():
        parameters = parameters_of(module)
        total: dict[str, Tensor] = {}
        for added in contributions(deltas, parameters):
            for name, value in added.items():
                total[name] = total[name] + value if name in total else value
        for name, value in total.items():
            _add(module, name, parameters.get(name), value * ratio)


@contextmanager
def merged(networks: Sequence[ActiveNetwork], ratio: float = 1.0) -> Iterator[None]:
    """Have `networks` in the weights for the time of the block; afterwards the weights are bit-identical."""
    saved = {module: parameters_of(module) for module in _by_layer(networks)}
    kept = [module for module in saved if not hasattr(module, _ORIGINALS)]  # those of an outer block stay
    saved = {
        module: {name: None if value is None else value.detach().clone() for name, value in found.items()}
        for module, found in saved.items()
    }
    try:
        for module in kept:
            setattr(module, _ORIGINALS, saved[module])
        add_networks(networks, ratio)
        yield
    finally:
        for module, originals in saved.items():
            _restore(module, originals)
        for module in kept:
            delattr(module, _ORIGINALS)


def originals_of(module: nn.Module) -> Parameters | None:
    """Return a layer's parameters without networks; None where nobody has merged any here."""
    found: Parameters | None = getattr(module, _ORIGINALS, None)
    return found


def parameters_of(module: nn.Module) -> dict[str, Tensor | None]:
    """Return a layer's own parameters by name; None for a bias that it could have."""
    return dict(module._parameters)


def _by_layer(networks: Sequence[ActiveNetwork]) -> dict[nn.Module, list[tuple[Delta, ActiveNetwork]]]:
    layers: dict[nn.Module, list[tuple[Delta, ActiveNetwork]]] = {}
    for network in networks:
        for module, delta in network.deltas.items():
            layers.setdefault(module, []).append((delta, network))
    return layers


def _check(delta: Delta, name: str, added: Tensor, before: Tensor | None) -> None:
    if before is not None and added.shape != before.shape:
        raise ValueError(
            f"a {delta.kind} changes a {name} of shape {tuple(added.shape)}, but the layer's is "
            f"{tuple(before.shape)}; the network seems to be made for another model"
        )


def _add(module: nn.Module, name: str, parameter: Tensor | None, total: Tensor) -> None:
    if parameter is None:  # a bias that the layer did not have
        like = next(value for value in module._parameters.values() if value is not None)
        module._parameters[name] = nn.Parameter(total.to(like.device, like.dtype), requires_grad=False)
    else:
        parameter.copy_(parameter.float() + total.to(parameter.device))


def _restore(module: nn.Module, originals: Parameters) -> None:
    with torch.no_grad():
        for name, original in originals.items():
            parameter = module._parameters.get(name)
            if original is None or parameter is None:
                module._parameters[name] = None
            else:
                parameter.copy_(original)
