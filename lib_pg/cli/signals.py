"""What ends the program from outside: Ctrl-C, and being told to end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT


class Terminated(BaseException):
    """The program was told to end: everything is tidied up on the way out.

    Attributes:
        code: the exit code that shells expect.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = 128 + number


@contextmanager
def ended_tidily() -> Iterator[None]:
    """Raise Terminated where SIGTERM (or a closed terminal) would end the process at once."""
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    with _handlers({number: _terminate for number in numbers}):
        yield


@contextmanager
def quit_by_ctrl_c() -> Iterator[None]:
    """End the process at Ctrl-C without an exception: for imports, which turn it into errors of their own."""
    with _handlers({signal.SIGINT: _quit}):
        yield


@contextmanager
def _handlers(handlers: dict[signal.Signals, object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # no other may set them
        yield
        return
    # One that is ignored stays so: that is how a program survives its terminal.
    before = {
        number: signal.signal(number, handler)  # type: ignore[arg-type]
        for number, handler in handlers.items()
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _quit(number: int, frame: FrameType | None) -> NoReturn:
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)
