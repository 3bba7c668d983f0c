"""Who does what where `accelerate launch` started several processes: shares of the work, and devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from lib_pg.cli.errors import UsageError

Item = TypeVar("Item")
# Others wait for whoever teaches the longest.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Share:
    """One of the processes that share the work; the only one where nothing else was launched.

    Attributes:
        index, count: of this process, and how many there are.
        local: number of this process on its machine.
    """

    index: int = 0
    count: int = 1
    local: int = 0

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Return this process's part of items that all processes list alike."""
        return list(items[self.index :: self.count])

    def device(self, name: str) -> str:
        """Return this process's device: with `cuda`, GPUs in turn, also with more processes than GPUs."""
        import torch

        if name != "cuda" or self.count == 1:
            return name
        return f"cuda:{self.local % max(1, torch.cuda.device_count())}"

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            import torch.distributed

            _state()
            torch.distributed.barrier()  # accelerate's own names a GPU by the process's number


def own_share() -> Share:
    """Return this process's share.

    Raises:
        UsageError: WORLD_SIZE, which a launcher sets, is no number.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if not size.isdecimal():
        raise UsageError(f"WORLD_SIZE is {size[:60]!r}, must be a number of processes; unset it")
    if int(size) == 1:
        return Share()
    state = _state()
    return Share(state.process_index, state.num_processes, state.local_process_index)


def _state() -> Any:
    from accelerate import PartialState

    # The processes only count and wait for one another: that needs no GPU, and several may share one.
    return PartialState(cpu=True, timeout=_PATIENCE)
