"""What was measured, a record a picture, and one small result.

`save` writes all records of a run as one JSON file, in columns and rounded, which `load` reads. Nothing here
knows a protocol: what the scores are is said in the head.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.heads import check_head
from lib_pg.cli.output import replace_file

FORMAT = 1
_BYTES_MAX = 256 << 20
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
        more: what else the protocol says; `notes` are paragraphs for the page. `machine`, `notes` and
            `command` are not compared on resuming.
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
        with path.open("rb") as stream:
            data = stream.read(_BYTES_MAX + 1)
        if len(data) > _BYTES_MAX:
            raise UsageError(f"{str(path)!r} is over {_BYTES_MAX >> 20} MiB; it must be a results.json")
        content = json.loads(data, parse_constant=_refuse)
        head = content["head"]
        if head["format"] != FORMAT:
            raise UsageError(f"{str(path)!r} has format {head['format']!r}; this program reads {FORMAT}")
        check_head(head)
        return in_columns(head, list(_records(content)))
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} holds no results of evaluate: {str(error)[:200]}") from error


def _records(content: Mapping[str, Any]) -> Iterator[Record]:
    """Yield the records of a file; one that is not whole raises ValueError, or whatever it comes to."""
    asked = content["head"]["scores"]
    for subject, training, method, scale, number, values in content["cells"]:
        told, seeds = content["grids"][_place(number)]
        columns = {name: _scores(column, asked[name]["step"]) for name, column in values.items()}
        if set(columns) != set(asked) or any(len(column) != len(told) for column in columns.values()):
            raise ValueError(f"a cell of {method!r} has not one score of each kind a picture")
        if not all(isinstance(name, str) for name in (subject, training, method)) or not np.isfinite(scale):
            raise ValueError(f"a cell is called {[subject, training, method, scale]}")
        for index, (place, seed) in enumerate(zip(told, seeds, strict=True)):
            prompt = content["prompts"][_place(place)]
            if not isinstance(prompt, str) or not isinstance(seed, int):
                raise ValueError(f"a picture is of {prompt!r} with seed {seed!r}")
            scores = {name: column[index] for name, column in columns.items()}
            yield Record(subject, training, method, scale, prompt, seed, scores)


def _scores(column: Any, step: float) -> list[float]:
    scores = np.round(np.array(column, dtype=np.float64) * step, 9)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers, one a picture")
    found: list[float] = scores.tolist()
    return found


def _place(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is no place in a list")
    return number


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no score")


def _cells(results: Results) -> Iterator[tuple[tuple[str, str, str, float], Results]]:
    """Yield the runs of records of one cell with its names; sorted results have one for each."""
    columns = (results.subject, results.training, results.method, results.scale)
    names = list(zip(*(column.tolist() for column in columns), strict=True))
    for cell, numbers in groupby(range(len(names)), key=names.__getitem__):
        yield cell, results.where(np.array(list(numbers)))


def _in_steps(head: Head, name: str, column: NDArray[np.float64]) -> list[int]:
    return [round(value / head["scores"][name]["step"]) for value in column.tolist()]
