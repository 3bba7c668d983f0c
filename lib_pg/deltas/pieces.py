"""Large tensors piece by piece: fresh memory for a copy of all costs more than the arithmetic on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

_SHARE = 1 << 18  # values that are worth a thread
_THREADS = 4  # more of them wait for the memory

_NUMBERS = 1 << 18  # of a piece: it and what is made of it stay in a processor's cache


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Yield views that are the tensor along its first axis; those of one shape are cut alike."""
    if tensor.numel() <= _NUMBERS:
        yield tensor
        return
    rows = max(1, _NUMBERS * len(tensor) // tensor.numel())
    for start in range(0, len(tensor), rows):
        yield tensor[start : start + rows]


def spread(count: int, work: Callable[[int, int], None]) -> None:
    """Have several threads do `work(first, last)` for all of `count` values, each for a part.

    Where torch has a thread for each core, one is enough: it divides the work itself. Many WebUIs run it with
    fewer, and then what new memory costs is divided here.

    Args:
        work: computes on a CPU; what it raises is raised here.
    """
    cores = (os.cpu_count() or 1) // torch.get_num_threads()
    threads = min(_THREADS, cores, count // _SHARE)
    if threads < 2:
        work(0, count)
        return
    cuts = [count * index // threads for index in range(threads + 1)]
    inference = torch.is_inference_mode_enabled()

    def part(first: int, last: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # each thread has its own
            work(first, last)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, cuts, cuts[1:]))
