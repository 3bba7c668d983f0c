"""The weak weights of one layer: W_w = W_pre + sum over its networks of omega_i C_i.

C_i is what merging network i added to the layer, from what those before it had left. With one omega for all
this is W_pre + omega (W_ft - W_pre), of whatever kinds the networks are: W_ft is what the layer holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import ActiveNetwork, Additive, Delta, Parameters
from lib_pg.deltas.fine_tune import FineTune, Stored
from lib_pg.deltas.merge import contributions, originals_of, weak_contributions
from lib_pg.deltas.pieces import pieces, spread

# Returns a layer's parameters without any network, by name; None where they are not known.
Pristine = Callable[[nn.Module], "Parameters | None"]
# A delta of a layer, and the network that it is of.
Pair: TypeAlias = "tuple[Delta, ActiveNetwork]"


_NOTHING = (None, None, None, 0)


class WeakWeights:
    """Makes the weak weights of one layer when they are first needed, and anew where omega or dtype change.

    Args:
        deltas: the layer's networks, each with its place in the branch.
        pristine: finds the layer's weights without networks.
        outlive: whether they are kept for the next run.
    """

    def __init__(
        self,
        module: nn.Module,
        deltas: Sequence[tuple[int, Delta]],
        pristine: Pristine = originals_of,
        outlive: bool = False,
    ) -> None:
        self._module = module
        self._deltas = tuple(deltas)
        self._pristine = pristine
        self._outlive = outlive
        self._made_for: object = None
        self._made: dict[str, nn.Parameter | None] = {}
        self._last: tuple[object, ...] = _NOTHING  # what the last call was about, mostly the very same

    def taken_over(self, deltas: Sequence[tuple[int, Delta]], pristine: Pristine) -> WeakWeights | None:
        """Return these for another run, with what has been made; None where its networks are others."""
        pairs = list(zip(self._deltas, deltas, strict=False))
        if len(deltas) != len(self._deltas) or not all(own.is_same(other) for (_, own), (_, other) in pairs):
            return None
        self._deltas, self._pristine, self._last = tuple(deltas), pristine, _NOTHING
        return self

    def end_run(self) -> None:
        if not self._outlive:
            self.free()

    def free(self) -> None:
        """Let go of what has been made: whoever still holds this object holds no weights."""
        self._made_for, self._last, self._made = None, _NOTHING, {}

    @property
    def nbytes(self) -> int:
        """Bytes of the weak weights as they are now; 0 before they were needed."""
        return sum(value.nbytes for value in self._made.values() if value is not None)

    def are_strong(self, networks: Sequence[ActiveNetwork], ratios: Sequence[float]) -> bool:
        """Say whether the layer's own weights are the weak ones."""
        return all(
            networks[index].weak_at(ratios[index]) == networks[index].strength for index, _ in self._deltas
        )

    def at(
        self, networks: Sequence[ActiveNetwork], ratios: Sequence[float]
    ) -> Mapping[str, nn.Parameter | None]:
        """Return by name the parameters that differ, in the layer's dtype and on its device.

        Args:
            networks: those of the branch, each at the strength that it has in the layer now.
            ratios: omega in [0, 1] of each of them.

        Raises:
            ValueError: the layer's weights without networks are not known and cannot be told.
        """
        like = next(value for value in self._module._parameters.values() if value is not None)
        pointer, last = like.data_ptr(), self._last
        if networks is last[0] and ratios is last[1] and like is last[2] and pointer == last[3]:
            return self._made
        pairs = [(delta, networks[index]) for index, delta in self._deltas]
        own = tuple(ratios[index] for index, _ in self._deltas)
        strengths = [(network.strength, network.weak_strength) for _, network in pairs]
        key = (own, strengths, like.device, like.dtype, pointer)
        if key != self._made_for:
            with torch.no_grad():
                made = self._make(pairs, own, like)
            self._made = {name: _parameter(value, like) for name, value in made.items()}
            self._made_for = key
        if isinstance(networks, tuple) and isinstance(ratios, tuple):  # what cannot change
            self._last = networks, ratios, like, pointer
        return self._made

    def _make(self, pairs: Sequence[Pair], own: Sequence[float], like: Tensor) -> dict[str, Tensor | None]:
        follow = all(network.weak_strength is None for _, network in pairs)
        if follow and len(pairs) == 1 and isinstance(tuned := pairs[0][0], FineTune):
            live = {name: find(self._module, name) for name in tuned.stored}
            if all(value is not None and _is_float(value) for value in live.values()):
                return {
                    name: _from_base(each, live[name], own[0], like) for name, each in tuned.stored.items()
                }
        pristine = self._pristine(self._module)
        # Read afterwards: a host that merges at a layer's first call may do so when it is asked.
        live = {name: find(self._module, name) for name in (*names_of(self._module), *(pristine or ()))}
        if pristine is None:
            return self._from_live(pairs, own, live)
        if follow and len(set(own)) == 1 and all(_is_float(live.get(name)) for name in pristine):
            return {
                name: _between(value, live.get(name), own[0], like)
                for name, value in pristine.items()
                if value is not live.get(name)  # the layer's own: nothing has changed it
            }
        return _sum(pristine, weak_contributions(pairs, own, pristine))

    def _from_live(
        self, pairs: Sequence[Pair], own: Sequence[float], live: Parameters
    ) -> dict[str, Tensor | None]:
        """Take away what does not depend on the weight below it; for others that weight must be known."""
        if not all(isinstance(delta, Additive) for delta, _ in pairs):
            kinds = ", ".join(sorted({delta.kind for delta, _ in pairs}))
            raise ValueError(
                f"the weights below a {type(self._module).__name__}'s networks ({kinds}) are not known; "
                "install them with `installed`, or have the host merge them"
            )
        strong = contributions(pairs, live)
        weak = weak_contributions(pairs, own, live)
        changes = (
            {name: lower[name] - value for name, value in higher.items()}
            for higher, lower in zip(strong, weak, strict=True)
        )
        return _sum(live, changes)


def names_of(module: nn.Module) -> list[str]:
    """Return the names of a layer's own parameters, those that it could have too."""
    return list(module._parameters)


def find(module: nn.Module, name: str) -> Tensor | None:
    """Return a layer's parameter; a dotted name is that of a part of it, such as `out_proj.weight`."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path) if path else module
    return owner._parameters.get(last)


@contextmanager
def swapped(module: nn.Module, parameters: Mapping[str, nn.Parameter | None]) -> Iterator[None]:
    """Have a layer use other parameters for the block; its own are the very same objects afterwards."""
    slots = []
    for name in parameters:
        path, _, last = name.rpartition(".")
        slots.append(((module.get_submodule(path) if path else module)._parameters, last))
    own = [table.get(last) for table, last in slots]
    try:
        for (table, last), value in zip(slots, parameters.values(), strict=True):
            table[last] = value
        yield
    finally:
        for (table, last), value in zip(slots, own, strict=True):
            table[last] = value


def _between(pristine: Tensor | None, live: Tensor | None, omega: float, like: Tensor) -> Tensor:
    """Return W_pre + omega (W_ft - W_pre) in the type of `like`; what one of them does not have is zero."""
    known = pristine if live is None else live
    assert known is not None
    low = torch.zeros_like(known) if pristine is None else pristine
    high = torch.zeros_like(known) if live is None else live
    found = torch.empty_like(known, dtype=like.dtype, device=like.device)
    # On a CPU new memory for copies of all costs more than the arithmetic on them.
    cut = pieces if found.device.type == "cpu" else lambda tensor: iter((tensor,))
    for part, a, b in zip(cut(found), cut(low), cut(high), strict=True):
        _lerp(a, b, omega, part)
    return found


def _from_base(base: Stored, live: Tensor | None, omega: float, like: Tensor) -> Tensor:
    """Return the same where W_pre is in a file: what is read is used while it is in the processor's cache."""
    assert live is not None
    found = torch.empty(live.shape, dtype=like.dtype, device=like.device)
    high, into = live.reshape(-1), found.view(-1)

    def make(first: int = 0, last: int | None = None) -> None:
        for piece in base.pieces(first, last):
            span = slice(first, first := first + len(piece))
            _lerp(piece, high[span], omega, into[span])

    if base.splits and high.device.type == into.device.type == "cpu":
        spread(len(into), make)
    else:
        make()
    if live.is_contiguous():
        return found
    return torch.empty_like(live, dtype=like.dtype, device=like.device).copy_(found)


def _lerp(low: Tensor, high: Tensor, omega: float, out: Tensor) -> None:
    a, b = (end.to(out.device, torch.float32) for end in (low, high))
    if out.dtype == torch.float32:
        torch.lerp(a, b, omega, out=out)
    else:
        out.copy_(torch.lerp(a, b, omega))  # rounded once


def _sum(parameters: Parameters, added: Iterator[dict[str, Tensor]]) -> dict[str, Tensor | None]:
    total: dict[str, Tensor | None] = {}
    for contribution in added:
        for name, value in contribution.items():
            base = total.get(name)
            base = parameters.get(name) if base is None else base
            total[name] = value if base is None else base.to(value.device).float() + value
    return total


def _parameter(value: Tensor | None, like: Tensor) -> nn.Parameter | None:
    return None if value is None else nn.Parameter(value.to(like.device, like.dtype), requires_grad=False)


def _is_float(value: Tensor | None) -> bool:
    return value is None or value.dtype in (torch.float32, torch.float16, torch.bfloat16)
