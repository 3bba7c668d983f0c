"""The joined engine: a linear layer's weak and strong rows are one batched product with W_w and W_ft.

A device that waits for Python to start its kernels then has as many to start as without guidance. It costs
memory for both weights; a call that cannot be such a product is left to the layer's other engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lib_pg.weak_branch.hooks import GuidanceForward
from lib_pg.weak_branch.layers import operand
from lib_pg.weak_branch.rows import Rows
from lib_pg.weak_branch.split import SplitLayer
from lib_pg.weak_branch.state import BranchState
from lib_pg.weak_branch.thin import ThinLayer
from lib_pg.weak_branch.weights import WeakWeights

# Says whether a linear layer's forward comes to F.linear with its own weight and bias as they are now.
IsProduct: TypeAlias = "Callable[[nn.Module, Callable[..., Any]], bool]"

# With more multiplications than this their work counts and not their start: then two products that begin
# with the bias are less work than one to which it is added.
_LARGE = 2**35
# A host that moves a layer's weights for every call would have them joined every time.
_JOINED_AT_MOST = 4


class JoinedLayer(GuidanceForward):
    """The forward of one linear layer's instance.

    Args:
        weights: makes the layer's weak weights, which are then kept here.
        is_product: asked before weights are made: a host may load its model after the branch is attached.
        other: the engine for calls that have other rows than one half weak and one half strong.
        on_shortage: is told that there is no memory for this.
    """

    def __init__(
        self,
        state: BranchState,
        module: nn.Module,
        weights: WeakWeights,
        is_product: IsProduct,
        other: ThinLayer | SplitLayer,
        on_shortage: Callable[[], None],
    ) -> None:
        super().__init__(module)
        self._state = state
        self._weights = weights
        self._is_product = is_product
        self._other = other
        self._on_shortage = on_shortage
        # The last call's rows and shape; x as (2, vectors, in) and the output's shape. None: no such halves.
        self._rows: Rows | None = None
        self._shape: torch.Size | None = None
        self._halves: tuple[int, int, int] | None = None
        self._output: tuple[int, ...] = ()
        self._weak_first = False
        # (2, in, out), the weight of the first half and that of the second, their biases (2, 1, out) where
        # these differ, and what all that was made of.
        self._both: Tensor | None = None
        self._biases: Tensor | None = None
        self._begins_weak = False
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None
        self._marks: list[int] = []
        self._networks: object = None
        self._ratios: object = None
        self._left = 0

    def attach(self) -> None:
        super().attach()
        self._other.forward = self.forward
        self._rows, self._left = None, _JOINED_AT_MOST

    def detach(self) -> None:
        super().detach()
        self._other.detach()
        self.stop()

    def stop(self) -> None:
        """Leave all calls to the other engine, and free both weights."""
        self._both = self._biases = self._weight = self._bias = None
        self._left = 0
        self._weights.end_run()

    @property
    def nbytes(self) -> int:
        """Bytes that the branch keeps for this layer."""
        own = (each.nbytes for each in (self._both, self._biases) if each is not None)
        return self._other.nbytes + sum(own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if len(args) == 1 and not kwargs and self._state.guides():
                output = self._multiply(args[0])
                if output is not None:
                    return output
        except torch.cuda.OutOfMemoryError:  # the other engine needs less
            self._on_shortage()
        except Exception as error:
            self._state.fail(error)
        return self._other(*args, **kwargs)

    def _multiply(self, x: Tensor) -> Tensor | None:
        """Return the layer's output; None where it cannot be had like this."""
        if self._state.rows is not self._rows or x.shape != self._shape:
            self._find_halves(x)
        own = self._module._parameters
        if self._halves is None or own.get("weight") is None:
            return None
        if not self._is_made_of(own["weight"], own.get("bias")):
            self._join()
        both, weight, bias = self._both, self._weight, self._bias
        if both is None or weight is None or (multiplied := operand(x, weight)) is None:
            return None
        rows = multiplied.view(self._halves)
        if self._biases is not None:
            output = torch.bmm(rows, both).add_(self._biases)
        elif bias is None:
            output = torch.bmm(rows, both)
        elif rows.numel() * both.shape[-1] < _LARGE:
            output = torch.bmm(rows, both).add_(bias)
        else:
            output = rows.new_empty(*self._halves[:2], both.shape[-1])
            for half in (0, 1):
                torch.addmm(bias, rows[half], both[half], out=output[half])
        return output.view(self._output)

    def _find_halves(self, x: Tensor) -> None:
        self._rows, self._shape, self._halves = self._state.rows, x.shape, None
        if x.ndim < 2 or self._state.watches:
            return
        share = self._rows.share(len(x))
        if share is None or (len(share.weak), len(share.strong)) != (1, 1):
            return
        weak, strong = share.weak[0], share.strong[0]
        if weak.stop - weak.start == strong.stop - strong.start:
            self._halves = (2, x.numel() // x.shape[-1] // 2, x.shape[-1])
            self._output = (*x.shape[:-1], -1)
            self._weak_first = weak.start == 0

    def _is_made_of(self, weight: Tensor | None, bias: Tensor | None) -> bool:
        """Whether what was made is of these parameters, as they are, and for what the branch does now."""
        state = self._state
        return (
            weight is self._weight
            and bias is self._bias
            and state.networks is self._networks
            and state.ratios is self._ratios
            and _marks(weight, bias) == self._marks
            and self._weak_first is self._begins_weak
        )

    def _join(self) -> None:
        """Make both weights; none where they are equal, or where more than weight and bias differs."""
        state, own = self._state, self._module._parameters
        if state.settle is not None:  # a host merges its networks at a layer's first call
            state.settle(self._module)
        self._both = self._biases = None
        weight, bias = self._weight, self._bias = own["weight"], own.get("bias")
        self._marks = _marks(weight, bias)
        self._networks, self._ratios, self._begins_weak = state.networks, state.ratios, self._weak_first
        # No host's own kind of a weight.
        if type(weight) is not nn.Parameter or self._weights.are_strong(state.networks, state.ratios):
            return
        if self._left == 0 or not self._is_product(self._module, self.forward):
            return
        self._left -= 1
        weak = self._weights.at(state.networks, state.ratios)
        if weak.keys() <= {"weight", "bias"}:
            self._both = self._in_order(weak.get("weight", weight), weight).transpose(1, 2)
            if "bias" in weak:
                self._biases = self._in_order(weak["bias"], bias).unsqueeze(1)
        self._weights.end_run()  # they are in `_both`

    def _in_order(self, weak: Tensor | None, strong: Tensor | None) -> Tensor:
        """Return both, that of the first half first; one that is not there is zero."""
        known = strong if weak is None else weak
        assert known is not None
        weak, strong = (torch.zeros_like(known) if each is None else each for each in (weak, strong))
        return torch.stack((weak, strong) if self._weak_first else (strong, weak))


def _marks(*parameters: Tensor | None) -> list[int]:
    """Return what changes when one is moved or written; in inference mode writes are not counted."""
    marks = []
    for each in parameters:
        if each is not None:
            marks.append(each.data_ptr())
            if not each.is_inference():
                marks.append(each._version)
    return marks
