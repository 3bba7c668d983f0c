"""Forge, reForge and Forge Classic: the rows of every call of the U-Net come with their meaning.

`transformer_options["cond_or_uncond"]` names the branch of each chunk of rows, whatever their order and
however the batch is split by free memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.deltas import Additive, Parameters
from lib_pg.formats.difference import Model
from lib_pg.hosts.forge.merging import Originals, comes_to_product, merges_at_calls
from lib_pg.hosts.forge.networks import active_networks
from lib_pg.hosts.webui.conditioning import in_rows, null_rows, tokens
from lib_pg.hosts.webui.sampling_pass import WebuiPass
from lib_pg.hosts.webui.text_encoder import weakened_text
from lib_pg.networks import Network

_UNCOND = 1
# The host's text encoders, which of a checkpoint's they are, and what users call them.
_TEXT_ENCODERS = (
    ("clip_l", "te1", "text encoder"),
    ("clip_h", "te1", "text encoder"),
    ("clip_g", "te2", "second text encoder"),
)
_MODIFIERS = "conditioning_modifiers"
# Where the hosts manage their memory: Forge, the newest Neo, reForge and Classic.
_MEMORY = ("backend.memory_management", "comfy.model_management", "ldm_patched.modules.model_management")
_AT_CALLS = (
    "the host has no room for all of the model and merges networks in every call of some layers, where only "
    "LoRA can be weakened; give the model more memory (GPU Weights) or use fewer networks of other kinds"
)


class ForgePass(WebuiPass):
    """One pass of sampling in a host of the Forge family."""

    def __init__(self, p: Any, model: Any, *args: Any) -> None:
        self._sampling_x: Tensor | None = None
        self._uncond_text: Tensor | None = None
        self._prompt_text: Tensor | None = None
        self._uncond_rows_done = 0
        self._skipping: tuple[list[Any], Any] | None = None
        self._originals: Originals | None = None
        super().__init__(p, model, *args)

    def attach(self) -> None:
        super().attach()
        if self.settings.outside == "None" and self.run.follows_steps:
            self._install_skip()

    @staticmethod
    def unet_of(model: Any) -> nn.Module | None:
        patcher = getattr(getattr(model, "forge_objects", None), "unet", None)
        return getattr(getattr(patcher, "model", None), "diffusion_model", None)

    @staticmethod
    def signature(model: Any) -> Any:
        return model.current_lora_hash

    @staticmethod
    def scale_of(p: Any) -> float:
        has_own = getattr(p, "is_hr_pass", False) and hasattr(p, "hr_cfg")
        return float(p.hr_cfg if has_own else p.cfg_scale)

    def end(self) -> None:
        try:
            super().end()
        finally:
            if self._skipping is not None:
                modifiers, skip = self._skipping
                modifiers.remove(skip)
                self._skipping = None

    def _active_networks(self, own_ratios: Mapping[str, float]) -> tuple[list[Network], list[str]]:
        return active_networks(self._model, own_ratios)

    def _models(self) -> dict[str, Model]:
        """The U-Net has its original names, the text encoders those of transformers."""
        objects = self._model.forge_objects
        models = {
            "U-Net": Model("unet", "unet", objects.unet.model.diffusion_model, "model.diffusion_model.")
        }
        for name, component, called in _TEXT_ENCODERS:
            encoder = getattr(objects.clip.cond_stage_model, name, None)
            if encoder is not None:
                models[called] = Model("te", component, encoder.transformer)
        return models

    def _without_networks(self, module: nn.Module) -> Parameters | None:
        if self._originals is None:
            objects = self._model.forge_objects
            self._originals = Originals([objects.unet, objects.clip.patcher])
        return self._originals.of(module)

    def pristine(self, module: nn.Module) -> Parameters | None:
        if not merges_at_calls(module):
            return super().pristine(module)
        own = (part.deltas.get(module) for network in self._networks for part in network.parts.values())
        if any(delta is not None and not isinstance(delta, Additive) for delta in own):
            self._warn(_AT_CALLS)
        return None  # a weak weight is merged into as well, which LoRA alone allows for

    def is_product(self, module: nn.Module, forward: Callable[..., Any]) -> bool:
        return comes_to_product(module, forward)

    def weak_rows(self, total: int) -> Sequence[int]:
        """Which rows they are is told with every call of the U-Net; here only whether there are any."""
        return range(self._uncond_rows)

    def _encode_null(self, ratios: Sequence[float]) -> Any:
        """Encode it with hooks on the text encoders, so that the host need not merge their weights anew."""
        from modules import devices, shared
        from modules.prompt_parser import SdConditioning

        width, height = self._size()
        prompt = SdConditioning([""], is_negative_prompt=True, width=width, height=height)
        prompt.distilled_cfg_scale = self._distilled_scale()
        _load(self._model.forge_objects.clip.patcher)
        with weakened_text(self._networks, ratios, self.pristine), devices.autocast():
            if hasattr(self._model, "set_clip_skip"):
                self._model.set_clip_skip(int(shared.opts.CLIP_stop_at_last_layers))
            null = self._model.get_learned_conditioning(prompt)
        if self._sampling_x is not None:  # the text encoder may have pushed the U-Net from its device
            _sampling_prepare(self._model.forge_objects.unet, self._sampling_x)
        return null

    def _distilled_scale(self) -> float | None:
        """Return the guidance that a distilled model (Flux) reads with the prompt, which is no CFG scale."""
        name = "hr_distilled_cfg" if getattr(self._p, "is_hr_pass", False) else "distilled_cfg_scale"
        return getattr(self._p, name, None)

    def _null_for(self, null: Any, params: Any) -> Any:
        """As long as the host's own of an empty negative prompt: the host joins lengths as it does there."""
        return null_rows(null, params.text_uncond, lambda text, old: in_rows(text, len(old)))

    def before_step(self, params: Any) -> None:
        self._sampling_x = params.x
        self._uncond_rows_done = 0
        super().before_step(params)
        is_prompt = params.text_uncond is params.text_cond
        self._uncond_text = tokens(params.text_uncond) if self.run.guides and not is_prompt else None
        self._prompt_text = tokens(params.text_cond)

    def _before_unet(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        branches = (kwargs.get("transformer_options") or {}).get("cond_or_uncond") or ()
        rows = len(args[0])
        if not branches or not self.run.guides:
            self.run.enter_unet(rows, ())
            return
        chunk = self._uncond_rows
        if rows % (chunk * len(branches)):
            raise RuntimeError(
                f"the U-Net was called with {rows} rows for {len(branches)} chunks of {chunk}; "
                "another extension seems to change the batch"
            )
        # Extensions that cut the picture into tiles repeat the whole pattern.
        uncond = [row for row in range(rows) if branches[row // chunk % len(branches)] == _UNCOND]
        if not uncond and self._is_uncond_again(kwargs.get("context")):
            uncond = list(range(rows))
        self._uncond_rows_done += len(uncond)
        self.run.enter_unet(rows, uncond, kwargs.get("context"))

    def _after_unet(self, unet: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.run.leave_unet()

    def _is_uncond_again(self, context: Any) -> bool:
        """Whether a later call repeats the uncond branch as a prompt, as self-attention guidance does."""
        text = self._uncond_text
        if text is None or not self._uncond_rows_done or not isinstance(context, Tensor):
            return False
        if not _are_equal(context, text):
            return False
        # A prompt of nothing but networks may read as the null prompt does: then it cannot be told.
        return self._prompt_text is not None and not _are_equal(self._prompt_text, text)

    def _install_skip(self) -> None:
        """Have the host leave out its uncond where the run does: as it does itself at CFG scale 1.

        A clone of the patcher holds this; the host throws it away with the pass.
        """
        run, warn = self.run, self._warn

        # No bound method: hosts deep-copy these options, and with a method this pass and the model.
        def skip(
            model: Any, x: Any, timestep: Any, uncond: Any, cond: Any, scale: Any, options: Any, seed: Any
        ) -> tuple[Any, ...]:
            if run.skips_weak_rows:
                if all(item.get("strength", 1.0) == 1.0 for item in cond):
                    scale = 1.0
                else:  # without an uncond the host would scale the prediction itself
                    warn("outside = None cannot be used with a weighted prompt, so plain CFG is used there")
            return model, x, timestep, uncond, cond, scale, options, seed

        patcher = self._model.forge_objects.unet.clone()
        patcher.add_conditioning_modifier(skip)
        self._skipping = patcher.model_options[_MODIFIERS], skip
        self._model.forge_objects.unet = patcher


def _are_equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b.to(a))


def _load(patcher: Any) -> None:
    """Have the host put a text encoder where it runs, its networks merged, before weights of it are read."""
    loads = (getattr(sys.modules.get(name), "load_model_gpu", None) for name in _MEMORY)
    next(filter(None, loads))(patcher)


def _sampling_prepare(patcher: Any, x: Tensor) -> None:
    """Have the host put the U-Net where it runs, as it does before its sampling."""
    if find_spec("backend") is not None:
        from backend.sampling.sampling_function import sampling_prepare
    else:
        from modules_forge.forge_sampler import sampling_prepare
    sampling_prepare(patcher, x)
