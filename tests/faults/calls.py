"""Calls of our own functions: which there are, and an error in one of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_OURS = (str(ROOT / "lib_pg"), str(ROOT / "scripts"))
# What an ending consists of: an error in here may leave hooks, but none that does anything.
_ENDING = {"end", "end_pass", "end_batch", "detach", "detach_all", "__exit__", "clean", "_give_up"}
# What the host calls itself, and what reads a few attributes before anything is caught, to save time.
OF_HOST = (
    "__call__",
    "finish_step",
    "launch_to_end",
    "end_pass",
    "strong_rows_alone",
    "_install_skip.<locals>.skip",
    "skips_weak_rows",
)


class Calls:
    """Counts calls of our functions by name, and raises an error at one of them.

    Attributes:
        counts: calls so far; generators are left out.
        raised_in: the functions of ours on the stack where the error was raised; empty before.
    """

    def __init__(self, name: str = "", number: int = 0, error: BaseException | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.raised_in: list[str] = []
        self._is_outermost = False
        self._name, self._number, self._error = name, number, error

    @property
    def is_in_ending(self) -> bool:
        return any(name.rpartition(".")[2] in _ENDING for name in self.raised_in)

    @property
    def is_of_host(self) -> bool:
        """Whether the host itself has called the function: nothing of ours could have caught the error."""
        return self._is_outermost or any(name.endswith(OF_HOST) for name in self.raised_in[:1])

    @contextmanager
    def watched(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, given: Any) -> None:
        name = _name_of(frame.f_code)
        if event != "call" or not name:
            return
        self.counts[name] += 1
        if self._error is not None and name == self._name and self.counts[name] == self._number:
            self.raised_in = _stack(frame)
            self._is_outermost = frame.f_back is None or not _name_of(frame.f_back.f_code)
            error, self._error = self._error, None
            raise error


def has_passed(error: BaseException) -> bool:
    """Whether an error came out of a function of ours, other than one that only stands between the host's."""
    names, trace = [""], error.__traceback__
    while trace is not None:
        names.append(_name_of(trace.tb_frame.f_code))
        trace = trace.tb_next
    innermost = [name for name in names if name][-1:]
    return any(not name.endswith(OF_HOST) for name in innermost)


def _stack(frame: FrameType | None) -> list[str]:
    names = []
    while frame is not None:
        if name := _name_of(frame.f_code):
            names.append(name)
        frame = frame.f_back
    return names


def _name_of(code: CodeType) -> str:
    """Return a function's file and name; empty for what is none of ours, no function, or a generator.

    A generator is called when it is thrown away, too, where nobody can catch an error.
    """
    if not code.co_filename.startswith(_OURS) or code.co_name == "<module>" or code.co_flags & CO_GENERATOR:
        return ""
    path = Path(code.co_filename).with_suffix("").relative_to(ROOT)
    return f"{'.'.join(path.parts[-2:])}:{getattr(code, 'co_qualname', code.co_name)}"
