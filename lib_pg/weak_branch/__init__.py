"""The weak rows of live layers, computed beside the strong ones without a weight written."""

from lib_pg.weak_branch.branch import KeptWeights, WeakBranch, weakened
from lib_pg.weak_branch.hooks import GuidanceHook, detach_all
from lib_pg.weak_branch.layers import is_torch_s, layer_shape
from lib_pg.weak_branch.rows import take_rows
from lib_pg.weak_branch.weights import Pristine

__all__ = [
    "GuidanceHook",
    "KeptWeights",
    "Pristine",
    "WeakBranch",
    "detach_all",
    "is_torch_s",
    "layer_shape",
    "take_rows",
    "weakened",
]
