"""The hook around each call of a pipeline's U-Net: puts what the run decides into its inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lib_pg.hosts.diffusers.branches import Batch
from lib_pg.run import Call, GuidedRun
from lib_pg.weak_branch import take_rows

# What pipelines give the U-Net without a name.
_POSITIONAL = ("sample", "timestep", "encoder_hidden_states")
# What belongs to the prompt beside its text: its picture, its sizes, what a ControlNet makes of it.
_OF_PROMPT = (
    "encoder_hidden_states",
    "encoder_attention_mask",
    "class_labels",
    "added_cond_kwargs",
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
)


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """An encoded prompt: `embeds` (1, tokens, width) and, for SDXL, `pooled` (1, width)."""

    embeds: Tensor
    pooled: Tensor | None = None


class HostOfUNet(Protocol):
    """What the hook asks of the host."""

    def batch(self, total: int) -> Batch | None:
        """Return which rows of a call are which; None where they cannot be told, which the user is told."""

    def step_at(self, timestep: float) -> tuple[int, int]:
        """Return the sampling step of a noise level, and how many there are."""


class UNetHook:
    """The two hooks of one guided block.

    Attributes:
        batch: the rows of the call that runs now; None where none has weak rows.
    """

    def __init__(self, host: HostOfUNet, run: GuidedRun[EncodedPrompt]) -> None:
        self._host = host
        self._run = run
        self._skipped: Batch | None = None
        self.batch: Batch | None = None

    def before(
        self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = _POSITIONAL[: len(args)]
        inputs = {**dict(zip(names, args, strict=False)), **kwargs}
        total = len(inputs["sample"])
        self._skipped = None
        batch = self._host.batch(total)
        if batch is None:
            self._run.pass_over()
            self._run.enter_unet(total)
            return args, kwargs
        changed = self._changed(inputs, batch)
        others = {name: value for name, value in changed.items() if name not in names}
        return (*(changed[name] for name in names), *args[len(names) :]), others

    def after(self, unet: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Give skipped rows the prediction of the prompt's: the pipeline then combines to that."""
        self._run.leave_unet()
        self.batch = None
        batch = self._skipped
        if batch is None:
            return None
        is_tuple = isinstance(output, tuple)
        prediction = output[0] if is_tuple else output.sample
        if batch.can_shrink:
            prediction = torch.cat([prediction] * len(batch.branches))
        else:
            prediction = batch.with_weak(prediction, batch.of_prompt(prediction))
        return (prediction, *output[1:]) if is_tuple else type(output)(sample=prediction)

    def _changed(self, inputs: dict[str, Any], batch: Batch) -> dict[str, Any]:
        """Return the inputs of the next call, whose weak rows the run is told of."""
        level = float(torch.as_tensor(inputs["timestep"]).flatten()[0])
        step, steps = self._host.step_at(level) if self._run.follows_steps else (0, 1)
        call = self._run.next_call(step, steps, batch.total)
        if self._run.enter_unet(batch.total) and not call.skip_weak_rows:
            self.batch = batch
        if call.skip_weak_rows:
            self._skipped = batch
            return _prompt_alone(inputs, batch) if batch.can_shrink else inputs
        if call.conditioning == "negative":
            return inputs
        return {**inputs, **_weak_conditioning(inputs, batch, call)}


def is_of_unet(hook: object) -> bool:
    """Whether a hook is one of these."""
    return isinstance(getattr(hook, "__self__", None), UNetHook)


def _prompt_alone(inputs: dict[str, Any], batch: Batch) -> dict[str, Any]:
    """Return the inputs with the prompt's rows alone."""
    there = {name: inputs[name] for name in _OF_PROMPT if name in inputs}
    others = {name: value for name, value in inputs.items() if name not in there}
    first = batch.branches.index("prompt") * batch.total // len(batch.branches)
    rows = slice(first, first + batch.total // len(batch.branches))
    alone: dict[str, Any] = batch.each(there, batch.of_prompt)
    return {**take_rows(others, rows, batch.total), **alone}


def _weak_conditioning(inputs: Mapping[str, Any], batch: Batch, call: Call[EncodedPrompt]) -> dict[str, Any]:
    """Return the inputs that are others in the weak rows.

    The null prompt takes the place of the text alone: the picture of an IP-Adapter and what a ControlNet made
    of the host's own text stay. Autoguidance has the prompt itself, with all that belongs to it.
    """
    null = call.null_prompt
    if null is None:
        there = {name: inputs[name] for name in _OF_PROMPT if name in inputs}
        repeated: dict[str, Any] = batch.each(
            there, lambda rows: batch.with_weak(rows, batch.of_prompt(rows))
        )
        return repeated
    text = inputs["encoder_hidden_states"]
    embeds = _fit_tokens(null.embeds.to(text), text.shape[1])
    weak: dict[str, Any] = {
        "encoder_hidden_states": batch.with_weak(text, _one_each(embeds, batch.of_prompt(text)))
    }
    added = inputs.get("added_cond_kwargs")
    if added and null.pooled is not None:
        pooled = added["text_embeds"]
        pooled = batch.with_weak(pooled, _one_each(null.pooled.to(pooled), batch.of_prompt(pooled)))
        weak["added_cond_kwargs"] = {**added, "text_embeds": pooled}
    return weak


def _one_each(row: Tensor, rows: Tensor) -> Tensor:
    return row.expand(len(rows), *row.shape[1:])


def _fit_tokens(embeds: Tensor, tokens: int) -> Tensor:
    """Repeat the null prompt's chunk to the length of a long prompt, so that both stay one batch."""
    return embeds.repeat(1, math.ceil(tokens / embeds.shape[1]), 1)[:, :tokens]
