"""Which rows of the model's batch a layer has, where another extension calls it with a part of them.

Such extensions cut the batch within an attention and run its layers once for each part (NegPiP, Regional
Prompter), or once more for some rows (ControlNet's reference). Nothing says which part; what a layer is given
and the order of calls mostly do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lib_pg.weak_branch.hooks import is_ours
from lib_pg.weak_branch.rows import Rows, Share, Span

# Rows, and how many of them each row of the model has there.
Part: TypeAlias = "tuple[Span, int]"
# Parts of a layer in the tree of modules that are no step of the computation themselves.
_LISTS = (nn.Sequential, nn.ModuleList)


class PartialCalls:
    """Finds the rows of partial calls during one call of the model.

    Four things tell them, and none is a guess: the part is a view of a tensor that has all rows; it begins
    with the text of rows that all read the same branch; it begins as rows of one branch did when the layer
    had all of them; or layers of the same attention that were called as often had known rows then.

    Args:
        owners: returns, when it is first needed, the part of the model that each layer belongs to.
    """

    def __init__(self, owners: Callable[[], Mapping[nn.Module, nn.Module]]) -> None:
        self._find_owners = owners
        self._owners: Mapping[nn.Module, nn.Module] | None = None
        self._text: Tensor | None = None
        self._calls: dict[nn.Module, dict[nn.Module, list[Part | None]]] = {}
        self._whole: dict[nn.Module, Tensor] = {}

    def begin(self, text: Tensor | None) -> None:
        """Forget the last call of the model.

        Args:
            text: what all rows of the coming one read, (rows, tokens, width); None where it is not known.
        """
        self._text = text
        self._calls.clear()
        self._whole.clear()

    def remember(self, module: nn.Module, x: Tensor) -> None:
        """Keep how each row of a call with all of them begins."""
        if x.ndim == 3 and x.numel():
            self._whole[module] = x[:, 0].clone()

    def share(self, module: nn.Module, x: Tensor, rows: Rows) -> Share | None:
        """Return which rows of a layer's call are weak and strong; None where it cannot be told."""
        part = (
            _by_storage(x, rows.total)
            or self._by_text(x, rows)
            or self._by_value(module, x, rows)
            or self._by_order(module, len(x))
        )
        self._of_owner(module).setdefault(module, []).append(part)
        return None if part is None else rows.part(*part)

    def _by_text(self, x: Tensor, rows: Rows) -> Part | None:
        """Return rows of the branch whose text `x` begins with; which of them makes no difference."""
        text = self._text
        if text is None or len(text) != rows.total or x.ndim != 3 or x.shape[2] != text.shape[2]:
            return None
        length = text.shape[1]
        if x.shape[1] < length:
            return None
        return _of_one_branch(x[:, :length], text, rows)

    def _by_value(self, module: nn.Module, x: Tensor, rows: Rows) -> Part | None:
        whole = self._whole.get(module)
        if whole is None or len(whole) != rows.total or x.ndim != 3 or x.shape[2] != whole.shape[1]:
            return None
        if not x.numel():
            return None
        return _of_one_branch(x[:, 0], whole, rows)

    def _by_order(self, module: nn.Module, rows: int) -> Part | None:
        calls = self._of_owner(module)
        place = len(calls.get(module, ()))
        known = {parts[place] for parts in calls.values() if len(parts) > place} - {None}
        if len(known) != 1:
            return None
        (part,) = known
        return part if part is not None and part[0][1] - part[0][0] == rows else None

    def _of_owner(self, module: nn.Module) -> dict[nn.Module, list[Part | None]]:
        if self._owners is None:
            self._owners = self._find_owners()
        return self._calls.setdefault(self._owners.get(module, module), {})


def owners_of(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return for every module of a model the part that it belongs to: the attention of a `to_q`."""
    owners: dict[nn.Module, nn.Module] = {model: model}
    for module in model.modules():  # parents come before their children
        for child in module.children():
            owners.setdefault(child, owners[module] if isinstance(module, _LISTS) else module)
    return owners


def _of_one_branch(parts: Tensor, whole: Tensor, rows: Rows) -> Part | None:
    """Return rows of the branch whose rows of `whole` alone are like all `parts`."""
    alike = [{r for r in range(rows.total) if torch.equal(part, whole[r].to(part))} for part in parts]
    for branch in (rows.weak, rows.strong):
        own = {r for start, stop in branch for r in range(start, stop)}
        if all(found and found <= own for found in alike):
            return next((((a, a + len(parts)), 1) for a, b in branch if b - a >= len(parts)), None)
    return None


def has_other_forwards(model: nn.Module) -> bool:
    """Say whether an extension has replaced the forward of a block of a model, where it may cut the batch."""
    return any(
        not is_ours(vars(module).get(name))
        for module in model.modules()
        for name in ("forward", "_forward")
        if name in vars(module) and module is not model and next(module.children(), None) is not None
    )


def _by_storage(x: Tensor, total: int) -> Part | None:
    """Return the rows that `x` is a view of.

    A cut along rows keeps the memory of the whole and its stride: both say where it begins.
    """
    stride = x.stride(0)
    if not stride or not x.is_floating_point():
        return None
    elements = x.untyped_storage().nbytes() // x.element_size()
    whole, rest = divmod(elements, stride)
    if rest or whole % total or not whole or whole == len(x):
        return None
    start = x.storage_offset() // stride
    return (start, start + len(x)), whole // total
