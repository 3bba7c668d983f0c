"""Processes that judge pictures while the next ones are made, and the records of what they found."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

from lib_pg.cli.evaluate.drawn import judged
from lib_pg.cli.evaluate.drawn_plan import Cell, Picture, in_batches
from lib_pg.cli.evaluate.part_files import Part
from lib_pg.cli.evaluate.pictures import Pictures
from lib_pg.cli.evaluate.records import Record
from lib_pg.cli.evaluate.workers import workers

_AT_ONCE = 32  # pictures
_Judged = list[tuple[Sequence[Picture], Future[list[dict[str, float]]]]]


class Judges:
    """Judges pictures behind their maker's back; cells come into the part file in their order, each at once.

    Args:
        pool: processes.
        part: where records go.
        waiting: how many cells may wait for their scores.
    """

    def __init__(self, pool: ProcessPoolExecutor, part: Part, waiting: int) -> None:
        self._pool = pool
        self._part = part
        self._waiting = waiting
        self._cells: deque[tuple[Cell, _Judged]] = deque()

    def judge(self, cell: Cell, told: Sequence[Picture], pictures: Pictures) -> None:
        """Have the pictures of a cell judged and kept, at once or later."""
        parts: _Judged = []
        for first, few in zip(range(0, len(told), _AT_ONCE), in_batches(told, _AT_ONCE), strict=True):
            shown = pictures[first : first + _AT_ONCE]
            contexts = [each.context for each in few]
            parts.append((few, self._pool.submit(judged, shown, cell.fine_tune.subject.name, contexts)))
        self._cells.append((cell, parts))
        while len(self._cells) > self._waiting:
            self._keep()

    def finish(self) -> None:
        """Keep what is still waiting."""
        while self._cells:
            self._keep()

    def _keep(self) -> None:
        cell, parts = self._cells.popleft()
        self._part.add(
            Record(*cell.key(picture), scores)
            for few, scored in parts
            for picture, scores in zip(few, scored.result(), strict=True)
        )


@contextmanager
def judges(part: Part, processes: int) -> Iterator[Judges]:
    """Have so many processes judge; what they have is kept when the block ends well."""
    with workers(processes) as pool:
        found = Judges(pool, part, waiting=2 * processes)
        yield found
        found.finish()


def processes_beside(device: str, count: int) -> int:
    """Return how many processes judge beside one of `count` makers, which may need the cores themselves."""
    cores = (os.cpu_count() or 1) // count
    return 1 if device == "cpu" else max(1, cores - 1)
