"""What the protocol `bundled` makes: each taught subject with each method and scale, the same pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lib_pg.cli.evaluate.drawn import CONTEXTS, Context, prompt_for
from lib_pg.cli.evaluate.fine_tunes import COURSES, Course, FineTune, paths_of
from lib_pg.cli.evaluate.methods import METHODS, Method
from lib_pg.cli.evaluate.records import Key

# Of each method, scale and amount of training, over all subjects.
PICTURES_MIN = 256
_SEEDS = 1000  # more than a context's pictures


@dataclass(frozen=True)
class Picture:
    """One picture that is asked for."""

    context: Context
    prompt: str
    seed: int


@dataclass(frozen=True)
class Cell:
    """One taught subject with one method at one scale."""

    fine_tune: FineTune
    method: Method
    scale: float

    def key(self, picture: Picture) -> Key:
        """Return what names the picture's record."""
        subject, training = self.fine_tune.subject.name, self.fine_tune.training
        return (subject, training, self.method.name, self.scale, picture.prompt, picture.seed)


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        courses: how subjects are taught.
        methods: what is compared.
        contexts: what every subject is asked for in.
        pictures_min: pictures of each method, scale and amount of training, over all subjects.
        seed: of teaching and of the pictures.
    """

    courses: tuple[Course, ...] = COURSES
    methods: tuple[Method, ...] = METHODS
    contexts: tuple[Context, ...] = CONTEXTS
    pictures_min: int = PICTURES_MIN
    seed: int = 0

    def fine_tunes(self, cache: Path) -> list[FineTune]:
        """Return all taught subjects, each with where it is kept."""
        return [each for course in self.courses for each in paths_of(course, self.seed, cache)]

    def cells(self, cache: Path) -> list[Cell]:
        """Return all cells, those of one taught subject together."""
        return [
            Cell(fine_tune, method, scale)
            for fine_tune in self.fine_tunes(cache)
            for method in self.methods
            for scale in method.scales
        ]

    def pictures(self, fine_tune: FineTune) -> list[Picture]:
        """Return the pictures of a taught subject's cells: the same for every method, and none twice."""
        trainings = [name for course in self.courses for name, _ in course.stops]
        subjects = trainings.count(fine_tune.training)
        repeats = -(-self.pictures_min // (subjects * len(self.contexts)))
        return [
            Picture(context, prompt_for(fine_tune.subject, context), self._seed(number, repeat))
            for number, context in enumerate(self.contexts)
            for repeat in range(repeats)
        ]

    def _seed(self, number: int, repeat: int) -> int:
        return (self.seed * len(self.contexts) + number) * _SEEDS + repeat


def quick(plan: Plan) -> Plan:
    """Return a smaller plan: the first subject, taught well and too long, fewer contexts and scales."""
    course = replace(plan.courses[0], stops=plan.courses[0].stops[1:])
    methods = tuple(replace(each, scales=each.scales[1:4]) for each in plan.methods)
    contexts = tuple(context for number, context in enumerate(plan.contexts) if number % 3)
    return replace(plan, courses=(course,), methods=methods, contexts=contexts, pictures_min=len(contexts))


def in_batches(pictures: Sequence[Picture], size: int) -> Iterator[Sequence[Picture]]:
    """Yield the pictures, at most so many at once."""
    for first in range(0, len(pictures), size):
        yield pictures[first : first + size]
