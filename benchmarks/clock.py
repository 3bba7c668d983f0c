"""Time and memory of a device: CUDA's own events and counters, or the process's clock and size."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from benchmarks.memory import peak_bytes

Value = TypeVar("Value")
_CALLS = 4


class Clock:
    """A stopwatch whose laps are not waited for: on CUDA they are events in the stream."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._start: float | torch.cuda.Event = 0.0

    def start(self) -> None:
        self._start = self._now()

    def stop(self) -> float:
        """Wait for all work since `start` and return its seconds."""
        end = self._now()
        if isinstance(end, float) or isinstance(self._start, float):
            return end - self._start
        end.synchronize()
        return self._start.elapsed_time(end) / 1000

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def timed(device: torch.device, call: Callable[[], Value]) -> tuple[float, Value]:
    """Return the seconds from a call to the end of all its work, and what it returns."""
    synchronize(device)
    start = time.perf_counter()
    value = call()
    synchronize(device)
    return time.perf_counter() - start, value


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(device: torch.device, call: Callable[[], Value]) -> tuple[int | None, Value]:
    """Return the greatest memory in use during a call, and what it returns.

    On CUDA that of torch's tensors on the device, elsewhere the size of the process; None where the system
    does not tell it.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        value = call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device), value
    values: list[Value] = []
    peak = peak_bytes(lambda: values.append(call()))
    return peak, values[0] if values else call()


def kernels_of(device: torch.device, call: Callable[[], object]) -> tuple[int, float] | None:
    """Return how many kernels a call has a CUDA device run, and their seconds together; None elsewhere.

    The mean of a few calls in succession.
    """
    if device.type != "cuda":
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_CALLS):
            call()
        torch.cuda.synchronize(device)
    found = [each for each in profile.key_averages() if each.self_device_time_total > 0]
    seconds = sum(each.self_device_time_total for each in found) / 1e6
    return sum(each.count for each in found) // _CALLS, seconds / _CALLS
