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
        # What `before` has changed in the current call: weak rows, and their x as it was.
        self._changed: list[tuple[slice, Tensor]] = []

    def attach(self) -> None:
        self._handles.append(self._module.register_forward_hook(self, with_kwargs=True))
        if self._transform.prepares:
            before = _Before(self)
            self._handles.append(self._module.register_forward_pre_hook(before, with_kwargs=True))

    def detach(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._changed = []

    def before(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any] | None:
        """Return the layer's arguments with other weak rows; None where nothing changes."""
        self._changed = []
        try:
            if not self._weakens():
                return None
            x: Tensor = args[0] if args else kwargs["input"]
            transform = self._on(x)
            changed = x.clone()
            kept = [(rows, x[rows]) for rows in self._state.share(self._module, x).weak]
            for rows, own in kept:
                changed[rows] = transform.prepare(own, *self._strengths(), self._module)
        except Exception as error:
            self._state.fail(error)
            return None
        self._changed = kept
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "input": changed})

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> None:
        try:
            if not self._weakens():
                return
            kept, self._changed = self._changed, []
            x: Tensor = args[0] if args else kwargs["input"]
            transform = self._on(output)
            if not self._transform.prepares:
                kept = [(rows, x[rows]) for rows in self._state.share(module, x).weak]
            for rows, own in kept:
                transform.finish(output[rows], own.to(output.dtype), module, *self._strengths())
        except Exception as error:
            self._state.fail(error)

    def _weakens(self) -> bool:
        return self._state.guides() and self._state.factors[self._network] != 0.0

    def _strengths(self) -> tuple[float, float]:
        return self._state.networks[self._network].strength, self._state.weak[self._network]

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
