"""What a fine-tune adds to a layer's weight, one file a kind."""

from lib_pg.deltas.base import ActiveNetwork, Additive, Delta, Parameters, Transform, Transforming
from lib_pg.deltas.low_rank import LowRank
from lib_pg.deltas.parts import Part, Parts

__all__ = [
    "ActiveNetwork",
    "Additive",
    "Delta",
    "LowRank",
    "Parameters",
    "Part",
    "Parts",
    "Transform",
    "Transforming",
]
