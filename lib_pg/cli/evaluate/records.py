"""What was measured, a record a picture: part files that a killed run resumes from, and one small result.

A run has one folder. Each process appends to a part file of its own there: the head in the first line, then a
line a picture. `merged` reads all parts; `save` writes them as one JSON file, in columns and rounded, which
`load` reads. Nothing here knows a protocol: what the scores are is said in the head.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lib_pg.cli.errors import UsageError
from lib_pg.cli.output import replace_file

FORMAT = 1
# What a head may say that does not decide a picture: another value of it is the same run.
NOT_COMPARED = ("machine", "notes")
Head = dict[str, Any]
Key = tuple[str, str, str, float, str, int]


@dataclass(frozen=True)
class Record:
    """One picture.

    Attributes:
        subject: its name.
        training: how the subject was taught: under, normal, over, lokr, full, or what the user gave.
        method, scale: name of the method and guidance scale.
        prompt, seed: the same for every method.
        scores: `alignment` and `fidelity`, higher is better, and parts of them; the names of the head.
    """

    subject: str
    training: str
    method: str
    scale: float
    prompt: str
    seed: int
    scores: Mapping[str, float]

    @property
    def key(self) -> Key:
        """What the picture was of: no run makes a key twice."""
        return (self.subject, self.training, self.method, self.scale, self.prompt, self.seed)


def head_of(
    protocol: str,
    version: str,
    steps: int,
    methods: Mapping[str, Any],
    models: Mapping[str, str],
    scores: Mapping[str, Mapping[str, Any]],
    **more: Any,
) -> Head:
    """Return the head of a run: everything that decides what is measured.

    Args:
        protocol: "bundled" or "dreambench".
        version: of this program.
        steps: sampling steps.
        methods: `methods.described(...)`.
        models: content hash of each model file, by name.
        scores: of each score what it is (`about`) and the step it is rounded to in the result (`step`).
        more: what else the protocol says; `notes` are paragraphs for the page. `machine` and `notes` are not
            compared on resuming.
    """
    head = {
        "format": FORMAT,
        "protocol": protocol,
        "version": version,
        "steps": steps,
        "methods": dict(methods),
        "models": dict(models),
        "scores": {name: dict(about) for name, about in scores.items()},
        **more,
    }
    return dict(json.loads(json.dumps(head)))  # as it will be read again


@dataclass(frozen=True, eq=False)
class Results:
    """All records of a run in columns of one length, sorted by their keys.

    Attributes:
        head: of the run.
        subject, training, method, prompt: texts.
        scale, seed: numbers.
        scores: a column each.
    """

    head: Head
    subject: NDArray[Any]
    training: NDArray[Any]
    method: NDArray[Any]
    scale: NDArray[np.float64]
    prompt: NDArray[Any]
    seed: NDArray[np.int64]
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.seed)

    def where(self, chosen: NDArray[Any]) -> Results:
        """Return the records at which `chosen` is true, or those with these numbers."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return replace(self, **columns, scores={name: column[chosen] for name, column in self.scores.items()})


_COLUMNS = tuple(each.name for each in fields(Record) if each.name != "scores")
_DTYPES: dict[str, Any] = {"scale": np.float64, "seed": np.int64}


class Part:
    """A part file that is open for more records."""

    def __init__(self, stream: BinaryIO, names: Sequence[str]) -> None:
        self._stream = stream
        self._names = set(names)

    def add(self, records: Iterable[Record]) -> None:
        """Append records and flush them.

        Raises:
            ValueError: scores are others than the head names, or no finite numbers.
        """
        lines = []
        for record in records:
            scores = {name: float(value) for name, value in record.scores.items()}
            if set(scores) != self._names or not np.isfinite(list(scores.values())).all():
                raise ValueError(f"scores are {scores}; they must be finite numbers for {self._names}")
            lines.append(json.dumps([*record.key, scores]) + "\n")
        self._stream.write("".join(lines).encode())
        self._stream.flush()


@contextmanager
def part_file(folder: Path, process: int, head: Head) -> Iterator[Part]:
    """Open the part file of a process, to go on where it ends; a damaged last line goes first.

    Raises:
        UsageError: the file belongs to another run, or is damaged elsewhere.
    """
    path = folder / f"part-{process:03d}.jsonl"
    if path.exists():
        whole = _read(path, head)[1]
        with path.open("r+b") as stream:
            stream.truncate(whole)
    with path.open("ab") as stream:
        if stream.tell() == 0:
            stream.write(json.dumps({"head": head}).encode() + b"\n")
            stream.flush()
        yield Part(stream, list(head["scores"]))


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


def in_columns(head: Head, records: Sequence[Record]) -> Results:
    """Return records as columns, in their order."""
    columns = {
        name: np.array([getattr(record, name) for record in records], dtype=_DTYPES.get(name, np.str_))
        for name in _COLUMNS
    }
    scores = {
        name: np.array([record.scores[name] for record in records], dtype=np.float64)
        for name in head["scores"]
    }
    return Results(head, **columns, scores=scores)


def save(results: Results, path: Path) -> None:
    """Write results as JSON: a list of scores for each cell, in the head's steps, as whole numbers.

    Raises:
        UsageError: it cannot be written.
    """
    grids: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
    prompts = {prompt: number for number, prompt in enumerate(np.unique(results.prompt).tolist())}
    cells = []
    for names, cell in _cells(results):
        grid = (tuple(cell.prompt.tolist()), tuple(cell.seed.tolist()))
        number = grids.setdefault(grid, len(grids))
        values = {name: _in_steps(results.head, name, column) for name, column in cell.scores.items()}
        cells.append([*names, number, values])
    content = {
        "head": results.head,
        "prompts": list(prompts),
        "grids": [[[prompts[each] for each in told], list(seeds)] for told, seeds in grids],
        "cells": cells,
    }
    replace_file(path, (json.dumps(content, separators=(",", ":")) + "\n").encode())


def load(path: Path) -> Results:
    """Read what `save` wrote.

    Raises:
        UsageError: it is not there, or no such file.
    """
    try:
        content = json.loads(path.read_bytes())
        head, prompts = content["head"], content["prompts"]
        if head["format"] != FORMAT:
            raise UsageError(f"{str(path)!r} has format {head['format']!r}; this program reads {FORMAT}")
        records = []
        for subject, training, method, scale, number, values in content["cells"]:
            told, seeds = content["grids"][number]
            columns = {
                name: np.round(np.array(column) * head["scores"][name]["step"], 9).tolist()
                for name, column in values.items()
            }
            for index, (prompt, seed) in enumerate(zip(told, seeds, strict=True)):
                scores = {name: column[index] for name, column in columns.items()}
                records.append(Record(subject, training, method, scale, prompts[prompt], seed, scores))
        return in_columns(head, records)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} holds no results of evaluate: {str(error)[:200]}") from error


def _cells(results: Results) -> Iterator[tuple[tuple[str, str, str, float], Results]]:
    """Yield the runs of records of one cell with its names; sorted results have one for each."""
    columns = (results.subject, results.training, results.method, results.scale)
    names = list(zip(*(column.tolist() for column in columns), strict=True))
    for cell, numbers in groupby(range(len(names)), key=names.__getitem__):
        yield cell, results.where(np.array(list(numbers)))


def _in_steps(head: Head, name: str, column: NDArray[np.float64]) -> list[int]:
    return [round(value / head["scores"][name]["step"]) for value in column.tolist()]


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.jsonl"))


def _read(path: Path, head: Head) -> tuple[list[Record], int]:
    """Return the records of a part file and how many of its bytes are whole lines.

    What ended in mid-write left a last line that is no JSON: it does not count.
    """
    data = path.read_bytes()
    records, whole = [], 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines):
        try:
            content = json.loads(line) if line.endswith(b"\n") else None
            if number == 0 and content is not None:
                _check_head(path, content["head"], head)
            elif content is not None:
                records.append(Record(*content))
        except (ValueError, KeyError, TypeError):
            content = None
        if content is None:
            if number < len(lines) - 1:
                raise UsageError(f"{str(path)!r} is damaged in line {number + 1}; move it away to go on")
            break
        whole += len(line)
    return records, whole


def _check_head(path: Path, found: Head, head: Head) -> None:
    names = [name for name in {**found, **head} if name not in NOT_COMPARED]
    others = [name for name in names if found.get(name) != head.get(name)]
    if others:
        raise UsageError(
            f"{str(path)!r} belongs to another run, with another {', '.join(others)}; choose another --out, "
            "or move it away"
        )
