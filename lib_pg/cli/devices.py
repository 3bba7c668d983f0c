"""The device that computes: whether it is there, and whether an error says that its memory is full."""

from __future__ import annotations

from typing import Any

from lib_pg.cli.errors import UsageError

_FULL = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "failed to map segment",  # of a library that is imported
)

AUTO = "auto"


def add_device(group: Any) -> None:
    """Add the option `--device` to a group of argparse's."""
    group.add_argument(
        "--device", default=AUTO,
        help=f"cpu, cuda, cuda:1, mps (default: {AUTO}, the first that is there of cuda, mps and cpu)",
    )  # fmt: skip


def chosen_device(name: str) -> str:
    """Return a device as it is named, or for `auto` the first that is there of CUDA, MPS and the CPU."""
    import torch

    if name != AUTO:
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(name: str) -> None:
    """Compute a sum on a device.

    Raises:
        UsageError: there is no such device here, or it holds no numbers, as `meta`.
    """
    import torch

    try:
        right = (torch.ones(1, device=name) + 1).item() == 2
    except (AssertionError, AttributeError, ImportError, OSError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"device {name!r} cannot be used: {reason}; choose another with --device") from error
    if not right:
        raise UsageError(f"device {name!r} does not compute; choose another with --device")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, torch or the operating system says that memory is full."""
    said = str(error).casefold()
    return isinstance(error, MemoryError) or (
        isinstance(error, (ImportError, OSError, RuntimeError)) and any(each in said for each in _FULL)
    )
