"""The thin engine: the weak rows pass the layer with the others, and get their difference added.

    y = W_ft x + (omega - 1) * strength * dW x

For deltas with structure cheaper than the layer. No weight is copied; the extra memory is the factors'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lib_pg.deltas.base import Additive
from lib_pg.weak_branch.hooks import GuidanceHook
from lib_pg.weak_branch.state import BranchState


class ThinLayer(GuidanceHook):
    """The forward hook of one layer.

    Args:
        module: a linear layer or a convolution.
        deltas: its networks' deltas, each with the network's place in the branch.
    """

    def __init__(self, state: BranchState, module: nn.Module, deltas: Sequence[tuple[int, Additive]]) -> None:
        self._state = state
        self._module = module
        self._originals = list(deltas)
        self._deltas = list(deltas)
        self._kept_for: tuple[torch.device, torch.dtype] | None = None
        self._handle: RemovableHandle | None = None

    def attach(self) -> None:
        self._handle = self._module.register_forward_hook(self, with_kwargs=True)

    def detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @property
    def nbytes(self) -> int:
        """Bytes that the branch keeps for this layer."""
        return sum(delta.nbytes for _, delta in self._deltas)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> None:
        if not self._state.guides():
            return
        try:
            self._correct(module, args[0] if args else kwargs["input"], output)
        except Exception as error:
            self._state.fail(error)

    def _correct(self, module: nn.Module, x: Tensor, output: Tensor) -> None:
        state = self._state
        if (output.device, output.dtype) != self._kept_for:
            self._keep_for(output)
        for rows in state.share(module, x).weak:
            weak, weak_x = output[rows], x[rows]
            if weak_x.dtype != weak.dtype:  # only under autocast
                weak_x = weak_x.to(weak.dtype)
            for network, delta in self._deltas:
                if factor := state.factors[network]:
                    delta.add_to(weak, weak_x, module, factor)

    def _keep_for(self, output: Tensor) -> None:
        """Keep the factors where the layer computes now: moved and cast once, not at every call.

        From the originals: a detour through half precision must not cost precision for good.
        """
        where = self._kept_for = output.device, output.dtype
        self._deltas = [(index, delta.to(*where)) for index, delta in self._originals]
