"""The split engine: a layer's own forward sees the strong rows alone, the weak rows are computed with W_w.

For every kind of network and every kind of layer. Nothing is computed twice; the extra memory is W_w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib_pg.weak_branch.hooks import GuidanceForward
from lib_pg.weak_branch.layers import is_torch_s, operand
from lib_pg.weak_branch.rows import Share, Vectors, take_rows
from lib_pg.weak_branch.state import BranchState
from lib_pg.weak_branch.weights import WeakWeights, swapped


class _Call(NamedTuple):
    """Rows of a layer's call, and what the layer is called with for them."""

    rows: slice
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Divided(NamedTuple):
    """A layer's call in parts, or what torch's own product needs to compute both into one output."""

    strong: Sequence[_Call]
    weak: Sequence[_Call]
    product: tuple[Tensor, Share] | None = None


class SplitLayer(GuidanceForward):
    """The forward of one layer's instance."""

    def __init__(self, state: BranchState, module: nn.Module, weights: WeakWeights) -> None:
        super().__init__(module)
        self._state = state
        self._weights = weights
        # The last call's rows and shape, and where these are in x and in the output.
        self._share: Share | None = None
        self._shape: torch.Size | None = None
        self._strong_spans: list[tuple[Vectors, Vectors]] = []
        self._weak_spans: list[tuple[Vectors, Vectors]] = []

    def detach(self) -> None:
        super().detach()
        self._weights.end_run()

    @property
    def nbytes(self) -> int:
        """Bytes that the branch keeps for this layer."""
        return self._weights.nbytes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        divided = None
        try:
            if self._state.guides():
                divided = self._divide(args, kwargs)
        except Exception as error:
            self._state.fail(error)
        if divided is None:
            return self.forward(*args, **kwargs)
        # The strong rows first: a host may merge its networks at a layer's first call. Errors are its own.
        parts = [(call.rows, self.forward(*call.args, **call.kwargs)) for call in divided.strong]
        try:
            if divided.product is not None:
                return self._into_one(*divided.product)
            parts += [(call.rows, self._weak(call.args, call.kwargs)) for call in divided.weak]
            if len(parts) == 1:
                return parts[0][1]
            parts.sort(key=_start)
            return torch.cat([output for _, output in parts])
        except Exception as error:
            self._state.fail(error)
        return self.forward(*args, **kwargs)

    def _divide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Divided | None:
        """Return how a call is divided; None where no row of it is another one."""
        if self._weights.are_strong(self._state.networks, self._state.ratios):
            return None
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        share = self._state.share(self._module, x)
        if not share.weak:
            return None
        if self._is_plain_product(x):
            return _Divided((), (), (x, share))
        strong, weak = (
            [_Call(rows, _take(args, rows, x), _take(kwargs, rows, x)) for rows in part]
            for part in (share.strong, share.weak)
        )
        return _Divided(strong, weak)

    def _is_plain_product(self, x: Tensor) -> bool:
        """Whether the layer's forward is torch's own product, which can write where it is told to."""
        weight = self._module._parameters.get("weight")
        return weight is not None and is_torch_s(self.forward) and operand(x, weight) is x

    def _into_one(self, x: Tensor, share: Share) -> Tensor:
        """Compute both into one output: joining them would copy it."""
        own = self._module._parameters
        output = x.new_empty(*x.shape[:-1], len(own["weight"]))  # type: ignore[arg-type]
        if share is not self._share or x.shape != self._shape:
            self._share, self._shape = share, x.shape
            self._strong_spans, self._weak_spans = (
                [(Vectors.at(rows, x), Vectors.at(rows, output)) for rows in part]
                for part in (share.strong, share.weak)
            )
        _multiply(x, own, output, self._strong_spans)
        _multiply(x, {**own, **self._weak_parameters()}, output, self._weak_spans)
        return output

    def _weak(self, args: Any, kwargs: Any) -> Any:
        with swapped(self._module, self._weak_parameters()):
            return self.forward(*args, **kwargs)

    def _weak_parameters(self) -> Mapping[str, nn.Parameter | None]:
        if self._state.settle is not None:  # or else the host's forward would merge into ours
            self._state.settle(self._module)
        return self._weights.at(self._state.networks, self._state.ratios)


def _multiply(
    x: Tensor, parameters: Mapping[str, Tensor | None], output: Tensor, spans: list[tuple[Vectors, Vectors]]
) -> None:
    weight, bias = parameters["weight"], parameters.get("bias")
    assert weight is not None
    transposed = weight.t()
    for of_x, of_output in spans:
        if bias is None:
            torch.mm(of_x.of(x), transposed, out=of_output.of(output))
        else:
            torch.addmm(bias, of_x.of(x), transposed, out=of_output.of(output))


def _start(part: tuple[slice, Any]) -> int:
    return int(part[0].start)


def _take(value: Any, rows: slice, x: Tensor) -> Any:
    return value if rows == slice(0, len(x)) else take_rows(value, rows, len(x))
