"""Faults that the fault harness asks a real host for by their names, and a host's state to the bit.

RuntimeError in process_batch       that callback of the probe, which is a neighbour of the extension
RuntimeError in layer 0.42 at 3     the third call of one of the U-Net's modules, 0 to 1 of all
interrupt at 3, skip at 3           the user's buttons, within the third call of the U-Net
RuntimeError in ours NAME at 3      the third call of a function of the extension
count                               none: the extension's calls are counted by function
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

ERRORS: dict[str, type[Exception]] = {
    "RuntimeError": RuntimeError,
    "OutOfMemoryError": torch.cuda.OutOfMemoryError,
}
_FAULT = re.compile(r"(\w+)(?: in (layer|ours)? ?(\S+))?(?: at (\d+))?")
_OURS = re.compile(r"[\\/](lib_pg[\\/].*|scripts[\\/]personalization_guidance)\.py$")


class Fault:
    """One fault of one generation, or none where the text names none of these."""

    def __init__(self, text: str) -> None:
        found = _FAULT.fullmatch(text)
        self.kind, place, name, number = found.groups() if found else ("", None, None, None)
        self.number = int(number or 1)
        self.layer = float(name) if place == "layer" else None
        self.function = name if place == "ours" else ""
        self.callback = name if name and place is None else ""
        self.counts: Counter[str] = Counter()
        self._is_live = True
        self._handle: RemovableHandle | None = None

    def in_callback(self, name: str) -> None:
        """Raise where the fault is in this callback."""
        if name == self.callback and self.kind in ERRORS:
            self._raise()

    def watch_ours(self) -> None:
        """Follow the extension's functions in this thread, until `end`."""
        if self.function or self.kind == "count":
            sys.settrace(self._trace)

    def watch_model(self, unet: nn.Module, interrupt: Callable[[], None], skip: Callable[[], None]) -> None:
        """Have a module of the U-Net fail, or a button pressed, at one of its calls."""
        does = {"interrupt": interrupt, "skip": skip}.get(self.kind, self._raise)
        if self._handle is not None or (self.layer is None and self.kind not in ("interrupt", "skip")):
            return  # told again: of the second pass, and by some hosts twice of that
        modules = list(unet.modules())
        module = modules[int((self.layer or 0.0) * len(modules))]
        calls = 0

        def count(*given: Any) -> None:
            nonlocal calls
            calls += 1
            if calls >= self.number or not self._is_live:
                handle.remove()
            if calls == self.number and self._is_live:
                does()

        self._handle = handle = module.register_forward_pre_hook(count)

    def end(self) -> None:
        """Let go of the thread and of the model."""
        self._is_live = False
        if self._handle is not None:
            self._handle.remove()
        if sys.gettrace() == self._trace:
            sys.settrace(None)

    def _trace(self, frame: Any, event: str, given: Any) -> None:
        found = _OURS.search(frame.f_code.co_filename) if self._is_live and event == "call" else None
        if found is None:
            return
        path = re.sub(r"[\\/]", ".", found[1])
        name = f"{path}:{getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"
        self.counts[name] += 1
        if self.kind in ERRORS and name == self.function and self.counts[name] == self.number:
            self._raise()

    def _raise(self) -> None:
        raise ERRORS[self.kind]("asked for by the fault harness")


def models_of(sd_model: Any) -> Iterator[nn.Module]:
    """Yield the U-Net, the text encoders and the VAE of a host's model."""
    forge = getattr(sd_model, "forge_objects", None)
    if forge is not None:
        yield forge.unet.model.diffusion_model
        yield forge.clip.patcher.model
        yield forge.vae.first_stage_model
        return
    yield sd_model.model.diffusion_model
    yield sd_model.cond_stage_model if hasattr(sd_model, "cond_stage_model") else sd_model.conditioner
    yield sd_model.first_stage_model


def state_of(models: Iterator[nn.Module]) -> tuple[list[Any], str]:
    """Return everything that is hooked on models, and a hash of all parameters and buffers as they lie."""
    digest = hashlib.blake2b()
    hooks: list[Any] = []
    for model in models:
        for module in model.modules():
            hooks += [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            hooks += [vars(module)["forward"]] if "forward" in vars(module) else []
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            lies = (name, tuple(tensor.shape), tensor.stride(), str(tensor.dtype), str(tensor.device))
            digest.update(repr(lies).encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
    return hooks, digest.hexdigest()
