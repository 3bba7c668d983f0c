"""A full fine-tune: what a checkpoint's own weights have beyond those it started from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lib_pg.deltas.base import Delta, Parameters


class Stored(Protocol):
    """A parameter in a file.

    Attributes:
        splits: whether a part of it can be read without the rest.
    """

    @property
    def splits(self) -> bool: ...

    def load(self) -> Tensor:
        """Return it, read anew at every call."""

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[Tensor]:
        """Yield its values in order, flat, from `first` to before `last`.

        A piece is valid until the next is asked for.
        """


@dataclass(frozen=True, eq=False)
class FineTune(Delta):
    """C = m (theta_ft - theta_pre) of one layer's parameters, whichever of them the fine-tune has moved.

    Attributes:
        own: returns the layer's parameters in the fine-tuned checkpoint, without any network.
        stored: those that the base has other values for.
    """

    own: Callable[[], Parameters]
    stored: Mapping[str, Stored]

    kind = "full fine-tune"

    @property
    def nbytes(self) -> int:
        """Nothing: one is the model's, the other stays in its file."""
        return 0

    def base(self) -> Parameters:
        """Return the parameters that the base has other values for."""
        return {name: each.load() for name, each in self.stored.items()}

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        own, added = self.own(), {}
        for name, before in parameters.items():
            after = own.get(name)
            if before is not None and after is not None:
                added[name] = (after.float() - before.to(after.device).float()) * strength
        return added
