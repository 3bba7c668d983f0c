"""Work in a process of its own: one that is killed, interrupted, or has no room left on its disk."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from lib_pg.cli.errors import UsageError
from lib_pg.page.presets import PresetError

Work = Callable[[], object]

SAID = 2
# What the system is asked for where files get or lose a name; between two of them it only writes.
_EVENTS = ("open", "os.rename", "os.link", "os.mkdir")
NOBODY = 65534


def in_child(work: Work) -> int:
    """Run in a fork of this process; return its exit code: 2 where the user is told what is wrong."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except (UsageError, PresetError):
            code = SAID
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ended_at(number: int, folder: Path, end: Work, work: Work) -> Work:
    """Return work that is ended before the event of that number in a folder."""
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event == "open" and not int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR):
            return
        if event in _EVENTS and str(arguments[0]).startswith(str(folder)):
            seen += 1
            if seen == number:
                end()

    def watched() -> None:
        sys.addaudithook(watch)  # for good: only a process of its own can have it
        work()

    return watched


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    raise KeyboardInterrupt


def on_a_full_disk(room: int, work: Work) -> Work:
    """Return work that can write so many bytes into one file; then there is no room."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        work()

    return limited


def as_nobody(work: Work) -> Work:
    """Return work by a user whom permissions hold for: they do not for root."""

    def lowered() -> None:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        work()

    return lowered
