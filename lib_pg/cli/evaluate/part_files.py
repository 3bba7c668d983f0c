"""Part files of a run, which a killed one resumes from: the head in the first line, then a line a picture.

A run has one folder. Each of its processes appends to a part file of its own there; `merged` reads all parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.records import Head, Key, Record, Results, in_columns
from lib_pg.cli.output import unwritten

# What a head may say that does not decide a picture: another value of it is the same run.
NOT_COMPARED = ("machine", "notes", "command")
_NUMBER = (int, float)


def run_of(head: Head) -> str:
    """Return what names a run: the hash of all in its head that decides a picture or a score."""
    decides = {name: value for name, value in head.items() if name not in NOT_COMPARED}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


class Part:
    """A part file that is open for more records."""

    def __init__(self, path: Path, stream: IO[bytes], names: Sequence[str]) -> None:
        self._path = path
        self._stream = stream
        self._names = set(names)

    def add(self, records: Iterable[Record]) -> None:
        """Append records; they are in the file when this returns.

        Raises:
            UsageError: they cannot be written.
            ValueError: scores are others than the head names, or no finite numbers.
        """
        lines = []
        for record in records:
            scores = {name: float(value) for name, value in record.scores.items()}
            if set(scores) != self._names or not np.isfinite(list(scores.values())).all():
                raise ValueError(f"scores are {scores}; they must be finite numbers for {self._names}")
            lines.append(json.dumps([*record.key, scores]) + "\n")
        try:
            _append(self._stream, "".join(lines))
        except OSError as error:
            raise unwritten(self._path, error) from error


@contextmanager
def part_file(folder: Path, process: int, head: Head) -> Iterator[Part]:
    """Open the part file of a process, to go on where it ends; a damaged last line goes first.

    Raises:
        UsageError: the file belongs to another run, is damaged elsewhere, cannot be written, or another
            process writes to it.
    """
    path = folder / f"part-{process:03d}.jsonl"
    try:
        stream = path.open("ab", buffering=0)
    except OSError as error:
        raise unwritten(path, error) from error
    with stream:
        _claim(path, stream)
        try:
            stream.truncate(_read(path, head)[1])
            if path.stat().st_size == 0:
                _append(stream, json.dumps({"head": head}) + "\n")
        except OSError as error:
            raise unwritten(path, error) from error
        yield Part(path, stream, list(head["scores"]))


def _append(stream: IO[bytes], text: str) -> None:
    left = memoryview(text.encode())
    while left:
        left = left[stream.write(left) :]


def _claim(path: Path, stream: IO[bytes]) -> None:
    """Refuse a file that another process has claimed; however that ends, it claims it no longer."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        problem = f"{str(path)!r} is written by another process"
        raise UsageError(f"{problem}; wait for its end, or choose another --out") from error
    except OSError:  # a disk without such claims
        return


def finished(folder: Path, head: Head) -> set[Key]:
    """Return what the run in a folder has made already, by all processes.

    Raises:
        UsageError: a part file belongs to another run or is damaged.
    """
    return {record.key for path in _parts(folder) for record in _read(path, head)[0]}


def merged(folder: Path, head: Head) -> Results:
    """Return all records of a run; of two with one key, the first.

    Raises:
        UsageError: as `finished`.
    """
    records: dict[Key, Record] = {}
    for path in _parts(folder):
        for record in _read(path, head)[0]:
            records.setdefault(record.key, record)
    return in_columns(head, [records[key] for key in sorted(records)])


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.jsonl"))


def _read(path: Path, head: Head) -> tuple[list[Record], int]:
    """Return the records of a part file and how many of its bytes are whole lines.

    What ended in mid-write left a last line that is no JSON: it does not count.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    records, whole = [], 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines):
        try:
            content = json.loads(line) if line.endswith(b"\n") else None
            if number == 0 and content is not None:
                _check_head(path, content["head"], head)
            elif content is not None:
                records.append(_record(content, head))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            content = None
        if content is None:
            if number < len(lines) - 1:
                raise UsageError(f"{str(path)!r} is damaged in line {number + 1}; move it away to go on")
            break
        whole += len(line)
    return records, whole


def _record(content: Any, head: Head) -> Record:
    """Return the record of a line; one that a run does not write raises."""
    record = Record(*content)
    names = (record.subject, record.training, record.method, record.prompt)
    values = (record.scale, record.seed, *record.scores.values())
    whole = all(isinstance(each, str) for each in names) and all(isinstance(each, _NUMBER) for each in values)
    if not whole or set(record.scores) != set(head["scores"]):
        raise ValueError("this is no record")
    return record


def _check_head(path: Path, found: Head, head: Head) -> None:
    names = [name for name in {**found, **head} if name not in NOT_COMPARED]
    others = [name for name in names if found.get(name) != head.get(name)]
    if others:
        raise UsageError(
            f"{str(path)!r} belongs to another run, with another {', '.join(others)}; choose another --out, "
            "or move it away"
        )
