"""The weak branch: live modules whose weak rows see a network at a lower strength, without a weight written.

The rows of one batch share the personalised weights W_ft. The weak rows alone see

    theta_w = theta_pre + omega * (theta_ft - theta_pre)          (Park et al., ICCV 2025)

layer by layer, by one of two engines: thin.py adds a cheap difference, split.py computes them with W_w. A
third, joined.py, stands before these where there is memory for steps that take less time to start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Protocol, TypeAlias

from torch import Tensor, nn

from lib_pg.deltas.base import ActiveNetwork, Additive, Delta, Transforming
from lib_pg.deltas.fine_tune import FineTune
from lib_pg.deltas.merge import originals_of
from lib_pg.weak_branch.choice import Choice, Chooser, choose
from lib_pg.weak_branch.hooks import is_taken
from lib_pg.weak_branch.joined import IsProduct, JoinedLayer
from lib_pg.weak_branch.layers import layer_shape
from lib_pg.weak_branch.partial import PartialCalls, has_other_forwards, owners_of
from lib_pg.weak_branch.rows import Rows
from lib_pg.weak_branch.split import SplitLayer
from lib_pg.weak_branch.state import BranchState
from lib_pg.weak_branch.thin import ThinLayer
from lib_pg.weak_branch.two_sided import TwoSidedLayer
from lib_pg.weak_branch.weights import Pristine, WeakWeights, swapped

KeptWeights: TypeAlias = "dict[nn.Module, WeakWeights]"

# More ways than that to divide a batch are forgotten.
_KNOWN_ROWS = 32


class _Layer(Protocol):
    """What the branch needs of an engine's layer."""

    @property
    def nbytes(self) -> int: ...

    def attach(self) -> None: ...

    def detach(self) -> None: ...


class WeakBranch:
    """Attaches networks to live modules and has the weak rows of what these modules return be weak.

    Use it as a context manager around a run, or call `attach` and `detach`. Rows and ratios may change
    before every call of the model; until they are set no row is weak. From the end of the run on the hooks
    do nothing, even one that a host has copied elsewhere.

    Args:
        networks: the networks that are in the modules' weights now, each at its strength, in the order in
            which they were merged.
        on_fault: gets an error of a hook, after which no hook does anything; without it, the call of the
            module raises.
        pristine: returns a layer's parameters without networks, None where they are not known.
        choice: decides for each layer which engine it gets.
        model: what the modules are parts of, which finds the rows of layers that are called with only some.
        strengths, settle: as for `BranchState`.
        joins: where linear layers may keep W_w and W_ft as one, for which of them that is the product that
            their forward comes to.
        kept: weak weights of full fine-tunes from an earlier run, by layer, which are used again where they
            are the same; those of this run are put there. They cost more to make than any network's.

    Attributes:
        is_short_of_memory: whether layers were to be joined and there was no memory for that.

    Raises:
        ValueError: a layer whose weight has another shape than the delta.
    """

    def __init__(
        self,
        networks: Sequence[ActiveNetwork],
        on_fault: Callable[[Exception], None] | None = None,
        pristine: Pristine = originals_of,
        choice: Chooser = choose,
        kept: KeptWeights | None = None,
        model: nn.Module | None = None,
        strengths: Callable[[], Sequence[float]] | None = None,
        settle: Callable[[nn.Module], None] | None = None,
        joins: IsProduct | None = None,
    ) -> None:
        self.networks = tuple(networks)
        partial = PartialCalls(lambda: {} if model is None else owners_of(model))
        self._model = model
        self._state = BranchState(self.networks, on_fault, strengths, settle, partial)
        self._known_rows: dict[tuple[tuple[int, ...], int], Rows] = {}
        self._joined: list[JoinedLayer] = []
        self.is_short_of_memory = False
        self._layers: dict[nn.Module, _Layer] = {}
        self._choices: Counter[Choice] = Counter()
        for module, deltas in _by_layer(self.networks).items():
            for index, delta in deltas:
                _check_layer(self.networks[index].name, module, delta)
            chosen = choice(module, [delta for _, delta in deltas])
            joined = (
                joins is not None and len(layer_shape(module) or ()) == 2 and joins(module, module.forward)
            )
            thin = self._thin(module, deltas, pristine, joined) if chosen.engine == "thin" else None
            weights = _kept(kept, module, deltas, pristine)
            layer: _Layer = thin or SplitLayer(self._state, module, weights)
            if joined and joins is not None and isinstance(layer, (ThinLayer, SplitLayer)):
                if isinstance(layer, ThinLayer):  # as it does: from what the layer holds
                    weights = WeakWeights(module, deltas, lambda module: None)
                layer = JoinedLayer(self._state, module, weights, joins, layer, self._stop_joining)
                self._joined.append(layer)
                chosen = Choice("joined", chosen.reason)
            elif thin is None:
                chosen = Choice("split", chosen.reason)
            self._layers[module] = layer
            self._choices[chosen] += 1

    def __enter__(self) -> WeakBranch:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    @property
    def nbytes(self) -> int:
        """Bytes of what the branch keeps for its layers now: factors and weak weights."""
        return sum(layer.nbytes for layer in self._layers.values())

    @property
    def left(self) -> Sequence[nn.Module]:
        """Layers whose weak rows could not be told, so that they were left at full strength."""
        return list(self._state.left)

    @property
    def joins(self) -> bool:
        """Whether any layer may be joined."""
        return bool(self._joined)

    @property
    def followed_to_nothing(self) -> bool:
        """Whether the networks' strengths were changed, and were never others in the weak rows."""
        return self._state.followed and not self._state.weakened

    def attach(self) -> None:
        """Put one hook or forward on every adapted layer.

        Raises:
            RuntimeError: this branch or another one is attached to a layer already; nothing is attached then.
        """
        taken = [module for module in self._layers if is_taken(module)]
        if taken:
            raise RuntimeError(
                f"a weak branch is attached already to {len(taken)} of {len(self._layers)} layers; "
                "detach it before another one is attached"
            )
        self._state.live = True
        self._state.watches = self._model is not None and has_other_forwards(self._model)
        for layer in self._layers.values():
            layer.attach()

    def detach(self) -> None:
        """Take everything away; calling it again changes nothing."""
        self._state.live = False
        for layer in self._layers.values():
            layer.detach()

    def set_rows(self, weak: Iterable[int], total: int, text: Tensor | None = None) -> None:
        """Say which rows of the model's batch are weak.

        Args:
            weak: indices in [0, total), in any order; empty for none.
            total: rows the model is called with, at least 1. A layer that sees k times as many, because
                tiles were folded into the batch, has every row k times in a row.
            text: what these rows read, (total, tokens, width), where it is known.
        """
        key = tuple(weak), total
        rows = self._known_rows.get(key)  # the very same ones, by which layers know them again
        if rows is None:
            if len(self._known_rows) == _KNOWN_ROWS:
                self._known_rows.clear()
            rows = self._known_rows[key] = Rows.of(*key)
        self._state.set_rows(rows, text)

    def set_ratios(self, ratios: float | Sequence[float]) -> None:
        """Set omega: one for all networks, or one for each in their order; 1 leaves a network as it is."""
        if isinstance(ratios, (int, float)):
            ratios = [float(ratios)] * len(self.networks)
        if len(ratios) != len(self.networks):
            raise ValueError(f"{len(ratios)} weak ratios given for {len(self.networks)} networks")
        self._state.set_ratios(ratios)

    def describe(self) -> str:
        """Say which engines the layers have and why, such as `188 layers thin (LoRA), 4 split (LoHa)`."""
        parts = [f"{count} {choice.engine} ({choice.reason})" for choice, count in self._choices.items()]
        return ", ".join(parts)

    def _stop_joining(self) -> None:
        """Free what all joined layers hold: others need that memory."""
        self.is_short_of_memory = True
        for layer in self._joined:
            layer.stop()

    def _thin(
        self, module: nn.Module, deltas: Sequence[tuple[int, Delta]], pristine: Pristine, joined: bool
    ) -> ThinLayer | TwoSidedLayer | None:
        """Return the thin engine of a layer; None where its deltas have no thin form there."""
        additive = [(index, delta) for index, delta in deltas if isinstance(delta, Additive)]
        if len(additive) == len(deltas):
            return ThinLayer(self._state, module, additive)
        if joined:  # its hooks would change what a joined product reads
            return None
        ((index, only),) = deltas
        parameters = pristine(module)
        if parameters is None or not isinstance(only, Transforming):
            return None
        transform = only.transform(module, parameters, self.networks[index].strength)
        if transform is None:
            return None
        return TwoSidedLayer(self._state, module, index, transform, only.nbytes)


@contextmanager
def weakened(
    networks: Sequence[ActiveNetwork],
    ratios: Sequence[float],
    pristine: Pristine = originals_of,
    strengths: Callable[[], Sequence[float]] | None = None,
) -> Iterator[None]:
    """Have a whole model at omega for the block, whatever it is called with: a text encoder's null prompt.

    Args:
        networks: those in the model's weights, in the order in which they were merged.
        ratios: omega in [0, 1] for each of them.
        pristine: as for `WeakBranch`. Parts that are no layers with a call of their own are reached, too.
        strengths: as for `WeakBranch`; layers with a cheap difference follow them.
    """
    layers = _by_layer(networks)
    thin = {m for m, deltas in layers.items() if choose(m, [delta for _, delta in deltas]).engine == "thin"}
    added = [
        replace(network, deltas={m: delta for m, delta in network.deltas.items() if m in thin})
        for network in networks
    ]
    branch = WeakBranch(added, pristine=pristine, strengths=strengths)
    branch.set_ratios(ratios)
    branch.set_rows((0,), 1)
    with branch, ExitStack() as stack:
        for module, deltas in layers.items():
            weights = WeakWeights(module, deltas, pristine)
            if module not in thin and not weights.are_strong(networks, ratios):
                stack.enter_context(swapped(module, weights.at(networks, ratios)))
        yield


def _by_layer(networks: Sequence[ActiveNetwork]) -> dict[nn.Module, list[tuple[int, Delta]]]:
    layers: dict[nn.Module, list[tuple[int, Delta]]] = {}
    for index, network in enumerate(networks):
        for module, delta in network.deltas.items():
            layers.setdefault(module, []).append((index, delta))
    return layers


def _kept(
    kept: KeptWeights | None, module: nn.Module, deltas: Sequence[tuple[int, Delta]], pristine: Pristine
) -> WeakWeights:
    if kept is None or not any(isinstance(delta, FineTune) for _, delta in deltas):
        return WeakWeights(module, deltas, pristine)
    earlier = kept[module].taken_over(deltas, pristine) if module in kept else None
    kept[module] = earlier or WeakWeights(module, deltas, pristine, outlive=True)
    return kept[module]


def _check_layer(name: str, module: nn.Module, delta: Delta) -> None:
    if not isinstance(delta, Additive):  # others are held against the weight when they are asked
        return
    expected = layer_shape(module)
    if expected is None and (weight := module._parameters.get("weight")) is not None:
        expected = tuple(weight.shape)
    if delta.weight_shape != expected:
        raise ValueError(
            f"network {name!r} adapts a weight of shape {delta.weight_shape}, but the layer's is {expected}; "
            "the network seems to be made for another model"
        )
