"""Peak memory of this process during a call."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs: the peak becomes the present size


def peak_bytes(call: Callable[[], object]) -> int | None:
    """Return the greatest resident size while `call` runs, or None where the system (Linux) does not tell."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return None
    call()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 if peak else None
