"""The modules of a live model by the paths that they have without what others put around them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

# Where a wrapper keeps the module itself: torch.compile's, and PEFT's around a layer with an adapter.
_INSIDE = ("_orig_mod", "base_layer")


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of wrappers, or itself."""
    while inside := next((found for name in _INSIDE if (found := module._modules.get(name))), None):
        module = inside
    return module


def live_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module once with its path, as `named_modules` does, wrappers and adapters left out."""
    yield from _walk("", model, set())


def _walk(path: str, module: nn.Module, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    own = unwrapped(module)
    if own in seen:
        return
    seen.add(own)
    yield path, own
    for name, child in own.named_children():
        yield from _walk(f"{path}.{name}" if path else name, child, seen)
