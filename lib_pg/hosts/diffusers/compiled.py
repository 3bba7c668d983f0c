"""Models under torch.compile: guided, they run as they are written, for compiled code takes no new hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

# Where a module keeps what torch.compile made of it: `torch.compile(module)` and `module.compile()`.
_OUTER, _IN_PLACE = "forward", "_compiled_call_impl"


@contextmanager
def uncompiled(pipeline: Any) -> Iterator[bool]:
    """Have no compiled code in a pipeline's models for the block; it is kept for later.

    Yields:
        whether there was any.
    """
    models = (getattr(pipeline, name, None) for name in ("unet", "text_encoder", "text_encoder_2"))
    with ExitStack() as stack:
        found = False
        for module in (module for model in models if model is not None for module in model.modules()):
            if "_orig_mod" in module._modules:
                original = module._modules["_orig_mod"]
                assert original is not None
                _put(stack, module, _OUTER, original.__call__)
                found = True
            if vars(module).get(_IN_PLACE) is not None:
                _put(stack, module, _IN_PLACE, None)
                found = True
        yield found


def _put(stack: ExitStack, module: nn.Module, name: str, value: object) -> None:
    # In the instance itself: a compiled module passes on what is set or deleted.
    stack.callback(vars(module).__setitem__, name, vars(module)[name])
    vars(module)[name] = value
