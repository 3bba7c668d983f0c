"""Peak memory of a process during a call."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import re
from collections.abc import Callable
from pathlib import Path

_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs: the peak becomes the present size


def _return_freed_memory() -> None:
    """Give back what the allocator of C has kept: it would hide what the call takes."""
    libc = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(libc), "malloc_trim", None) if libc else None
    if trim is not None:
        trim(0)


def peak_bytes(call: Callable[[], object], process: int | str = "self") -> int | None:
    """Return a process's greatest resident size while `call` runs; None where the system is not Linux.

    Args:
        process: number of another process on this machine, of the same user.
    """
    gc.collect()
    _return_freed_memory()
    try:
        Path(f"/proc/{process}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return None
    call()
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 if peak else None
