"""Marks on what we put on live modules, so that it can be found and taken away whatever happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


class GuidanceHook:
    """What a hook or a forward of ours derives from, for `detach_all` to find it where a host broke off."""

    # Known by an attribute: a host that reloads its scripts makes this class anew.
    is_personalization_guidance = True


class GuidanceForward(GuidanceHook):
    """A forward of ours for one module.

    Attributes:
        replaced: what the module's instance had instead, None for its class's own.
        forward: what the module's calls would run without it.
    """

    replaced: object | None = None

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.forward: Callable[..., Any] = module.forward

    def attach(self) -> None:
        self.forward = self._module.forward
        put_forward(self._module, self)

    def detach(self) -> None:
        if vars(self._module).get("forward") is self:
            restore_forward(self._module)


def is_ours(hook: object) -> bool:
    return getattr(hook, "is_personalization_guidance", False)


def is_taken(module: nn.Module) -> bool:
    """Say whether a hook or forward of ours is on a module."""
    return is_ours(vars(module).get("forward")) or any(map(is_ours, module._forward_hooks.values()))


def put_forward(module: nn.Module, forward: GuidanceForward) -> None:
    """Have a module's instance use `forward`."""
    forward.replaced = vars(module).get("forward")
    vars(module)["forward"] = forward


def restore_forward(module: nn.Module) -> None:
    """Give a module back the forward that ours replaced; where another one lies above ours, leave that."""
    ours = vars(module).get("forward")
    if is_ours(ours):
        del vars(module)["forward"]
        if (replaced := getattr(ours, "replaced", None)) is not None:
            vars(module)["forward"] = replaced


def detach_all(model: nn.Module) -> None:
    """Take away everything of ours on a model, that of runs that broke off as well."""
    for module in model.modules():
        restore_forward(module)
        for hooks, with_kwargs in (
            (module._forward_hooks, module._forward_hooks_with_kwargs),
            (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        ):
            for key in [key for key, hook in hooks.items() if is_ours(hook)]:
                del hooks[key]
                with_kwargs.pop(key, None)
