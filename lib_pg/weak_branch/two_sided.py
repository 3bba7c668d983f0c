"""The thin engine's other half: kinds that depend on the weight are undone and done again on the weak rows.

One network on a layer, merged at strength m; the weak rows get what it would be at omega m. Their x may be
changed before the layer and their y after it, so that W_ft itself does all the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lib_pg.deltas.base import Transform
from lib_pg.weak_branch.hooks import GuidanceHook
from lib_pg.weak_branch.state import BranchState


class TwoSidedLayer(GuidanceHook):
    """The hooks of one layer.

    Args:
        network: the network's place in the branch.
        nbytes: bytes of its factors.
    """

    def __init__(
        self, state: BranchState, module: nn.Module, network: int, transform: Transform, nbytes: int
    ) -> None:
        self.nbytes = nbytes
        self._state = state
        self._module = module
        self._network = network
        self._original = transform
        self._transform = transform
        self._kept_for: tuple[torch.device, torch.dtype] | None = None
        self._handles: list[RemovableHandle] = []
        self._x: list[Tensor] = []

    def attach(self) -> None:
        self._handles.append(self._module.register_forward_hook(self, with_kwargs=True))
        if self._transform.prepares:
            before = _Before(self)
            self._handles.append(self._module.register_forward_pre_hook(before, with_kwargs=True))

    def detach(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._x = []

    def before(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any] | None:
        """Return the layer's arguments with other weak rows; None where nothing changes."""
        self._x = []
        if not self._weakens():
            return None
        try:
            x: Tensor = args[0] if args else kwargs["input"]
            transform = self._on(x)
            changed = x.clone()
            kept = []
            for rows in self._rows(len(x)):
                kept.append(x[rows])
                changed[rows] = transform.prepare(x[rows], *self._strengths(), self._module)
        except Exception as error:
            self._state.fail(error)
            return None
        self._x = kept
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "input": changed})

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> None:
        if not self._weakens():
            return
        kept, self._x = self._x, []
        try:
            x: Tensor = args[0] if args else kwargs["input"]
            transform = self._on(output)
            for number, rows in enumerate(self._rows(len(output))):
                own = kept[number] if kept else x[rows]
                transform.finish(output[rows], own.to(output.dtype), module, *self._strengths())
        except Exception as error:
            self._state.fail(error)

    def _weakens(self) -> bool:
        state = self._state
        return state.live and bool(state.rows.weak) and state.factors[self._network] != 0.0

    def _strengths(self) -> tuple[float, float]:
        return self._state.networks[self._network].strength, self._state.weak[self._network]

    def _rows(self, rows: int) -> list[slice]:
        fold = self._state.rows.fold(self._module, rows)
        return [slice(start * fold, stop * fold) for start, stop in self._state.rows.weak]

    def _on(self, tensor: Tensor) -> Transform:
        """Return the transform where the layer computes now: moved and cast once, not at every call."""
        where = (tensor.device, tensor.dtype)
        if where != self._kept_for:
            self._transform = self._original.to(*where)
            self._kept_for = where
        return self._transform


class _Before(GuidanceHook):
    def __init__(self, layer: TwoSidedLayer) -> None:
        self._layer = layer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._layer.before(args, kwargs)
