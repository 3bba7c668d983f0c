"""One pass of AUTOMATIC1111's sampling: its rows, its null prompt, and the hooks on its U-Net.

The host runs rows [cond ..., uncond ...], in one call of the U-Net or in several: hooks count what passes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lib_pg.hosts.a1111_networks import active_networks, loaded_networks
from lib_pg.hosts.rows import take_rows
from lib_pg.networks import Network
from lib_pg.run import GuidedRun
from lib_pg.settings import Settings
from lib_pg.weak_branch import GuidanceHook, detach_all

# ControlNet's mark: one constant token, of at least this size, in front of a conditioning.
_MARK = 500.0


class Pass:
    """One pass of sampling with one model: the host protocol, and the hooks on the U-Net."""

    def __init__(
        self, p: Any, model: Any, settings: Settings, own_ratios: Mapping[str, float], warn: Any
    ) -> None:
        self.settings = settings
        self._p = p
        self._model = model
        self._unet: nn.Module = model.model.diffusion_model
        self._warn = warn
        self._uncond_rows = 0
        self._loaded = _signature()
        layers = getattr(model, "network_layer_mapping", {})  # made with the first network
        self._networks, notes = active_networks(layers, own_ratios)
        for note in notes:
            warn(note)
        detach_all(self._unet)
        self.run: GuidedRun[Any] = GuidedRun(self, settings)
        self._steps_done = 0
        self._left_out = self._strong_rows = self._filled = 0
        self._predictions: list[Tensor] = []
        self._count_steps(p.sampler)
        self.run.__enter__()
        self._handles: list[RemovableHandle] = [
            self._unet.register_forward_pre_hook(_Hook(self._before_unet), with_kwargs=True),
            self._unet.register_forward_hook(_Hook(self._after_unet)),
        ]

    def is_for(self, model: Any) -> bool:
        """Whether the model and the networks in it are still those of this pass."""
        return model is self._model and _signature() == self._loaded

    def end(self) -> None:
        self.run.__exit__(None, None, None)
        while self._handles:
            self._handles.pop().remove()

    def networks(self) -> Sequence[Network]:
        return self._networks

    def weak_rows(self, total: int) -> Sequence[int]:
        """The last rows: one for each picture."""
        return range(total - self._uncond_rows, total)

    def warn(self, message: str) -> None:
        self._warn(message)

    def null_prompt(self, ratios: Sequence[float]) -> Any:
        """Encode an empty negative prompt as the host does, its text encoder's networks at omega.

        The host merges a network anew where its multiplier has changed, at the next use of a layer: so the
        multipliers are lowered for this one prompt, and the next prompt finds them as they were.
        """
        from modules.prompt_parser import SdConditioning

        loaded = loaded_networks()
        strengths = [network.te_multiplier for network in loaded]
        try:
            for network, ratio in zip(loaded, ratios, strict=True):
                network.te_multiplier *= ratio
            width, height = self._size()
            prompt = SdConditioning([""], is_negative_prompt=True, width=width, height=height)
            return self._model.get_learned_conditioning(prompt)
        finally:
            for network, strength in zip(loaded, strengths, strict=True):
                network.te_multiplier = strength

    def _size(self) -> tuple[int, int]:
        """Return width and height of the pass in pixels, which SDXL reads with the prompt."""
        if getattr(self._p, "is_hr_pass", False):
            return self._p.hr_upscale_to_x, self._p.hr_upscale_to_y
        return self._p.width, self._p.height

    def before_step(self, params: Any) -> None:
        self._uncond_rows = len(_tokens(params.text_uncond))
        self._predictions, self._filled = [], 0
        call = self.run.next_call(self._steps_done, params.total_sampling_steps, len(params.x))
        one_prompt_each = len(_tokens(params.text_cond)) == self._uncond_rows
        if not one_prompt_each and call.conditioning == "prompt":
            self.run.pass_over()
            self._warn("AG cannot guide a prompt with AND, so plain CFG is used; use PG")
        elif not one_prompt_each and call.skip_weak_rows:
            self.run.pass_over()
            self._warn("outside = None cannot be used with AND, so plain CFG is used there")
        elif call.conditioning == "prompt":
            params.text_uncond = params.text_cond
        elif call.null_prompt is not None:
            params.text_uncond = _null_rows(call.null_prompt, params.text_cond, params.text_uncond)

    def _before_unet(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rows = len(args[0])
        weak = len(self.run.enter_unet(rows))
        self._left_out = weak if self.run.skips_weak_rows else 0
        self._strong_rows = rows - self._left_out
        if not self._left_out:
            return None
        # Where the host calls for weak rows alone, one row has to run: a hook cannot leave a call out.
        few = slice(0, max(self._strong_rows, 1))
        return take_rows(args, few, rows), take_rows(kwargs, few, rows)

    def _after_unet(self, unet: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        self.run.leave_unet()
        if not self.run.skips_weak_rows:
            return None
        if self._strong_rows:
            self._predictions.append(output)
        if not self._left_out:
            return None
        # Rows that were left out get the prediction of their prompt's row, which came before them.
        filled = torch.cat(self._predictions)[self._filled : self._filled + self._left_out]
        self._filled += self._left_out
        return torch.cat([output, filled]) if self._strong_rows else filled

    def _count_steps(self, sampler: Any) -> None:
        """Count the steps the host's sampler has finished; the host makes a sampler for every pass.

        The host's own number is still 0 in the second step, and calls of the model are no steps: second-order
        samplers make two in one.
        """
        finished = sampler.callback_state

        def finish(state: Any) -> None:
            self._steps_done += 1
            finished(state)

        sampler.callback_state = finish


class _Hook(GuidanceHook):
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _signature() -> tuple[Any, ...]:
    """What the host's weights depend on: its own mark for merging anew."""
    return tuple((n.name, n.te_multiplier, n.unet_multiplier, n.dyn_dim) for n in loaded_networks())


def _tokens(conditioning: Any) -> Tensor:
    """Return the text part (rows, tokens, width) of a conditioning, a tensor or SDXL's dict."""
    text: Tensor = conditioning["crossattn"] if isinstance(conditioning, dict) else conditioning
    return text


def _null_rows(null: Any, cond: Any, uncond: Any) -> Any:
    """Return the null prompt in the form, rows and token length that the host's step needs.

    Args:
        null: one encoded prompt, a tensor (1, tokens, width) or SDXL's dict.
        cond: the prompts' conditioning, whose length keeps both in one batch.
        uncond: the host's own, whose rows and mark of ControlNet are kept.
    """
    old = _tokens(uncond)
    marks = old[:, :1] if _has_mark(old) else old[:, :0]
    length = _tokens(cond).shape[1] - marks.shape[1]
    chunk = _tokens(null).to(old)
    text = chunk.repeat(1, math.ceil(length / chunk.shape[1]), 1)[:, :length].expand(len(old), -1, -1)
    text = torch.cat([marks, text], dim=1)
    if not isinstance(uncond, dict):
        return text
    rows = copy.copy(uncond)
    rows.update(
        {
            key: null[key].to(value).expand(len(old), -1)
            for key, value in uncond.items()
            if key != "crossattn"
        },
        crossattn=text,
    )
    return rows


def _has_mark(text: Tensor) -> bool:
    first = text[:, 0]
    return bool((first == first[:, :1]).all() and first[0, 0].abs() > _MARK)
