"""All low-rank networks of a linear layer as one pair of factors: x is multiplied once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib_pg.deltas.base import Additive


@dataclass(frozen=True, eq=False)
class Stack:
    """Sum over networks of scale * up @ down.

    Attributes:
        down: (in, ranks of all); transposed as the product needs it.
        ups: each network's (rank, out), likewise.
        all_ups: (ranks of all, out): the same, as one.
        scales: each network's.
        places: each network's place in the branch.
        ends: each network's first column of `down`, and the one after its last.
    """

    down: Tensor
    ups: tuple[Tensor, ...]
    all_ups: Tensor
    scales: tuple[float, ...]
    places: tuple[int, ...]
    ends: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, deltas: Sequence[tuple[int, Additive]]) -> Stack | None:
        """Return a layer's networks as one; None where one of them is no pair of matrices.

        Args:
            deltas: each with the network's place in the branch, all on one device and in one dtype.
        """
        pairs = [pair for _, delta in deltas if (pair := delta.pair()) is not None]
        if not pairs or len(pairs) < len(deltas):
            return None
        downs, ups, scales = zip(*pairs, strict=True)
        if len(pairs) == 1:
            down, up = downs[0].t(), ups[0].t()
        else:
            down, up = torch.cat(downs).t(), torch.cat([each.t() for each in ups])
        ranks = [len(each) for each in downs]
        starts = [sum(ranks[:index]) for index in range(len(ranks))]
        ends = tuple((start, start + rank) for start, rank in zip(starts, ranks, strict=True))
        parts = tuple(up[first:last] for first, last in ends)
        return cls(down, parts, up, scales, tuple(place for place, _ in deltas), ends)

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.all_ups.nbytes

    def add_to(self, output: Tensor, x: Tensor, factors: Sequence[float]) -> None:
        """Add to `output` (n, out), in place, for `x` (n, in), each network's product times its factor."""
        if len(self.places) == 1:
            if factor := factors[self.places[0]] * self.scales[0]:
                output.addmm_(torch.mm(x, self.down), self.all_ups, alpha=factor)
            return
        own = [factors[place] * scale for place, scale in zip(self.places, self.scales, strict=True)]
        if not any(own):
            return
        thin = torch.mm(x, self.down)
        if own.count(own[0]) == len(own):
            output.addmm_(thin, self.all_ups, alpha=own[0])
            return
        for factor, up, (first, last) in zip(own, self.ups, self.ends, strict=True):
            if factor:
                output.addmm_(thin[:, first:last], up, alpha=factor)
