"""What live layers are, hosts' own kinds among them."""

from __future__ import annotations

from torch import nn


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
