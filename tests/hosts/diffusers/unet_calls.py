"""What goes into a pipeline's U-Net and comes out of it, and what its weak rows should be."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor


class Call:
    """One call of the U-Net as the pipeline made it."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        self.args = args
        self.kwargs = kwargs
        self.output = output


@contextmanager
def calls_of(pipeline: Any) -> Iterator[list[Call]]:
    """Collect what goes into and comes out of the U-Net, as the pipeline sees it, without touching it."""
    calls: list[Call] = []
    inputs: list[Any] = []

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append((args, kwargs))

    def after(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(Call(*inputs.pop(), output[0].clone()))

    with ExitStack() as stack:
        hook = pipeline.unet.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
        stack.callback(hook.remove)
        stack.callback(pipeline.unet.register_forward_hook(after, with_kwargs=True).remove)
        yield calls


def null_prompt_of(pipeline: Any) -> tuple[Tensor, Tensor | None]:
    """Return what a pipeline uses for no negative prompt, and its pooled form."""
    with torch.no_grad():
        _, negative, *pooled = pipeline.encode_prompt(
            prompt="", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
        )
    return negative, pooled[1] if pooled else None


def weak_forward(pipeline: Any, call: Call, rows: slice, text: tuple[Tensor, Tensor | None] | None) -> Tensor:
    """Run a pipeline's own U-Net on those latents of a call, with `text`, or with the prompt of the call."""
    latents, timestep = call.args
    dtype = pipeline.unet.dtype
    kwargs = copy.copy(call.kwargs)
    weak = rows.stop
    prompt_rows = slice(weak, 2 * weak)
    embeds, pooled = text if text else (kwargs["encoder_hidden_states"][prompt_rows], None)
    kwargs["encoder_hidden_states"] = embeds.to(dtype).expand(weak, -1, -1)
    if kwargs.get("added_cond_kwargs"):
        added = {key: value[prompt_rows].to(dtype) for key, value in kwargs["added_cond_kwargs"].items()}
        if pooled is not None:
            added["text_embeds"] = pooled.to(dtype).expand(weak, -1)
        kwargs["added_cond_kwargs"] = added
    with torch.no_grad():
        return pipeline.unet(latents[rows].to(dtype), timestep, **kwargs)[0]
