"""Perturbed attention, which calls its layers with a part of the rows: the run is told which part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from lib_pg.hosts.diffusers.branches import PERTURBED, Batch
from lib_pg.hosts.diffusers.unet_hook import EncodedPrompt, UNetHook
from lib_pg.run import GuidedRun


@contextmanager
def following_perturbed(unet: nn.Module, hook: UNetHook, run: GuidedRun[EncodedPrompt]) -> Iterator[None]:
    """Have the run follow the rows of every attention in the block."""
    with ExitStack() as stack:
        for module in unet.modules():
            if hasattr(module, "processor") and hasattr(module, "to_q"):
                _Attention(hook, run).attach(module, stack)
        yield


class _Attention:
    """The hooks of one attention: its layers see all rows, those of the perturbed branch, or all others."""

    def __init__(self, hook: UNetHook, run: GuidedRun[EncodedPrompt]) -> None:
        self._hook = hook
        self._run = run
        self._rows = 0

    def attach(self, attention: nn.Module, stack: ExitStack) -> None:
        stack.callback(attention.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
        stack.callback(attention.register_forward_hook(self._leave).remove)
        for layer in attention.modules():
            if layer is not attention and layer._parameters:
                stack.callback(layer.register_forward_pre_hook(self._before_layer).remove)

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._rows = len(args[0] if args else kwargs["hidden_states"])

    def _leave(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._hook.batch is not None:
            self._set(self._hook.batch)

    def _before_layer(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        batch = self._hook.batch
        if batch is None or not args or PERTURBED not in batch.branches:
            return
        each = batch.total // len(batch.branches)
        others = tuple(branch for branch in batch.branches if branch != PERTURBED)
        for branches in (others, (PERTURBED,), batch.branches):
            if len(args[0]) * len(batch.branches) == self._rows * len(branches):
                self._set(Batch(branches, each * len(branches)))
                return

    def _set(self, batch: Batch) -> None:
        self._run.enter_unet(batch.total, batch.weak_rows)
