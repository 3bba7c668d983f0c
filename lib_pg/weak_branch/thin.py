"""The thin engine: the weak rows pass the layer with the others, and get their difference added.

    y = W_ft x + (omega - 1) * strength * dW x

For deltas with structure cheaper than the layer. No weight is copied; the extra memory is the factors'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Additive
from lib_pg.weak_branch.hooks import GuidanceForward
from lib_pg.weak_branch.rows import Rows, Vectors
from lib_pg.weak_branch.stack import Stack
from lib_pg.weak_branch.state import BranchState


class ThinLayer(GuidanceForward):
    """The forward of one layer's instance.

    Where pictures are small, a step waits for Python: what stays the same from call to call is kept.

    Args:
        module: a linear layer or a convolution.
        deltas: its networks' deltas, each with the network's place in the branch.
    """

    def __init__(self, state: BranchState, module: nn.Module, deltas: Sequence[tuple[int, Additive]]) -> None:
        super().__init__(module)
        self._state = state
        self._originals = list(deltas)
        # Where the layer has computed last, and its networks there: linear layers' as one pair of factors.
        self._device: torch.device | None = None
        self._dtype: torch.dtype | None = None
        self._deltas = list(deltas)
        self._stack: Stack | None = None
        # The last call's rows and shape, and where in x and in the output the vectors of its weak rows are.
        self._rows: Rows | None = None
        self._shape: torch.Size | None = None
        self._spans: list[tuple[Vectors, Vectors]] = []

    @property
    def nbytes(self) -> int:
        """Bytes that the branch keeps for this layer."""
        return self._stack.nbytes if self._stack else sum(delta.nbytes for _, delta in self._deltas)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        try:
            if self._state.guides():
                self._correct(args[0] if args else kwargs["input"], output)
        except Exception as error:
            self._state.fail(error)
        return output

    def _correct(self, x: Tensor, output: Tensor) -> None:
        if output.dtype is not self._dtype or output.device != self._device:
            self._keep_for(output)
        stack, state = self._stack, self._state
        if stack is None or not (x.is_contiguous() and output.is_contiguous()) or x.dtype is not output.dtype:
            return self._correct_any(x, output)
        if state.watches:
            return self._correct_any(x, output)
        if state.rows is not self._rows or x.shape != self._shape:
            self._find_spans(x, output)
        if not self._spans:  # a part of the model's rows
            return self._correct_any(x, output)
        for of_x, of_output in self._spans:
            # One view each: every operation on a small layer costs as much as a product.
            stack.add_to(of_output.of(output), of_x.of(x), state.factors)

    def _correct_any(self, x: Tensor, output: Tensor) -> None:
        state = self._state
        for rows in state.share(self._module, x).weak:
            weak, weak_x = output[rows], x[rows]
            if weak_x.dtype != weak.dtype:  # only under autocast
                weak_x = weak_x.to(weak.dtype)
            if self._stack is not None:
                flat = weak.view(-1, weak.shape[-1]), weak_x.reshape(-1, weak_x.shape[-1])
                self._stack.add_to(*flat, state.factors)
                continue
            for network, delta in self._deltas:
                if factor := state.factors[network]:
                    delta.add_to(weak, weak_x, self._module, factor)

    def _find_spans(self, x: Tensor, output: Tensor) -> None:
        self._rows, self._shape = self._state.rows, x.shape
        share = self._rows.share(len(x))
        weak = share.weak if share else ()
        self._spans = [(Vectors.at(rows, x), Vectors.at(rows, output)) for rows in weak]

    def _keep_for(self, output: Tensor) -> None:
        """Keep the factors where the layer computes now: moved and cast once, not at every call.

        From the originals: a detour through half precision must not cost precision for good.
        """
        self._device, self._dtype = output.device, output.dtype
        self._deltas = [(index, delta.to(output.device, output.dtype)) for index, delta in self._originals]
        self._stack = Stack.of(self._deltas)
        if self._stack is not None:
            self._deltas = []
