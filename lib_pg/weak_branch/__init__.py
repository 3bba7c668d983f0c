"""The weak rows of live layers, computed beside the strong ones without a weight written."""

from lib_pg.weak_branch.branch import GuidanceHook, WeakBranch, detach_all, layer_shape

__all__ = ["GuidanceHook", "WeakBranch", "detach_all", "layer_shape"]
