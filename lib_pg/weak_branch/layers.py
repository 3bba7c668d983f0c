"""What live layers are, hosts' own kinds among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# Where torch keeps its own forward of a linear layer.
_OWN_LINEAR = "torch.nn.modules.linear"


def layer_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of a layer's weight, (out, in) or (out, in, kernel height, kernel width).

    None where it is neither linear nor a convolution of pictures. Hosts have linear layers of their own:
    their weights may be quantised (`quant_state` keeps the shape then) or not there yet.
    """
    if isinstance(module, nn.Conv2d):
        return (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    out_features, in_features = (getattr(module, name, None) for name in ("out_features", "in_features"))
    if isinstance(out_features, int) and isinstance(in_features, int):
        return (out_features, in_features)
    weight = getattr(module, "weight", None)
    shape = tuple(getattr(getattr(weight, "quant_state", weight), "shape", ()))
    return shape if len(shape) == 2 and not isinstance(module, nn.Embedding) else None


def is_torch_s(forward: Callable[..., Any]) -> bool:
    """Say whether a linear layer's forward is torch's own: hosts patch theirs into its place."""
    return getattr(getattr(forward, "__func__", forward), "__module__", "") == _OWN_LINEAR


def operand(x: Tensor, weight: Tensor) -> Tensor | None:
    """Return x as torch multiplies it with a linear layer's weight, which it takes as it is.

    None where it would cast the weight, record gradients or fail.
    """
    device = weight.device
    if x.device != device or not x.is_contiguous() or torch.is_grad_enabled():
        return None
    to = _autocast_dtype(device.type)
    if to is None:
        return x if x.dtype is weight.dtype else None
    return x.to(to) if to is weight.dtype and x.dtype is not torch.float64 else None


def _autocast_dtype(device: str) -> torch.dtype | None:
    """Return what torch casts to now; None where it casts nothing."""
    try:
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    except TypeError:  # before torch 2.4 there is a function a device
        if device == "cpu":
            return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
