"""One pass of a WebUI's sampling, as far as AUTOMATIC1111 and Forge agree.

Before every evaluation of its model the host calls back with the conditionings of its rows; within it, it
calls the U-Net once or several times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_pg.accelerators import Sampling
from lib_pg.deltas import Parameters
from lib_pg.formats import NetworkError
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.difference import Model, parameters_used
from lib_pg.hosts.base_checkpoint import BaseCheckpoint, compare
from lib_pg.hosts.webui.asked import Asked
from lib_pg.hosts.webui.base_checkpoint import KeptBase, base_of, forget_base
from lib_pg.hosts.webui.checkpoints import Listed, find_checkpoint
from lib_pg.hosts.webui.conditioning import tokens
from lib_pg.hosts.webui.console import say
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.hosts.webui.sampler_watch import SamplerWatch
from lib_pg.networks import Network
from lib_pg.run import GuidedRun
from lib_pg.settings import NO_CHECKPOINT, Settings
from lib_pg.weak_branch import GuidanceHook, detach_all


class WebuiPass(ABC):
    """One pass of sampling with one model: the host protocol, and the hooks on its U-Net.

    Args:
        p: the host's processing object.
        model: the host's model in use.
        watch: the pass's sampler, which outlives a change of the model.
        asked: what the prompt says of networks.
        warn: tells the user a sentence, once a generation.
        on_fault: gets an error within the U-Net's call; the host must not fail for it.
        null_prompts: those encoded in earlier passes.
        rank: to which differences from a base checkpoint are cut; 0 keeps them exact.
        fast: as for `GuidedRun`.

    Attributes:
        touched: whether any step so far is not what the host alone would have made.
    """

    def __init__(
        self,
        p: Any,
        model: Any,
        settings: Settings,
        watch: SamplerWatch,
        asked: Asked,
        warn: Callable[[str], None],
        on_fault: Callable[[Exception], None],
        null_prompts: NullPrompts,
        rank: int = 0,
        fast: bool = False,
    ) -> None:
        self.settings = settings
        self._p = p
        self._model = model
        self._warn = warn
        self._null_prompts = null_prompts
        self._uncond_rows = 0
        self.watch = watch
        self._guided_calls = 0
        self.touched = False
        self._loaded = self.signature(model)
        self._handles: list[RemovableHandle] = []
        own = asked.own
        ratios = {name: each.ratio for name, each in own.items() if each.ratio is not None}
        networks, notes = self._active_networks(ratios)
        self._networks = [
            network.with_weak_strength(own[network.name].strength) if network.name in own else network
            for network in networks
        ]
        absent = asked.absent()
        known = [*asked.known, *asked.faults_beside(absent), *notes]
        self._rank = rank
        self._kept = self._compared(known.append)
        if self._kept is not None:
            self._networks.insert(0, self._kept.base.network)
        weights = self._kept.base.kept if self._kept else None
        self.run: GuidedRun[Any] = GuidedRun(
            self, settings, on_fault, weights, self._sampling(), absent, known, fast
        )
        self._on_fault = on_fault

    def attach(self) -> None:
        """Put the hooks on the U-Net; `end` takes them away again, also those of an attempt that failed."""
        unet = self.unet_of(self._model)
        if unet is None:
            raise RuntimeError(f"no U-Net found in the host's {type(self._model).__name__}")
        detach_all(unet)
        self.run.__enter__()
        before, after = _Hook(self._before_unet, self._on_fault), _Hook(self._after_unet, self._on_fault)
        self._handles += [
            unet.register_forward_pre_hook(before, with_kwargs=True),
            unet.register_forward_hook(after),
        ]

    @staticmethod
    @abstractmethod
    def unet_of(model: Any) -> nn.Module | None:
        """Return the U-Net of a host's model; None where none is loaded."""

    @staticmethod
    @abstractmethod
    def signature(model: Any) -> Any:
        """Return what the networks in the model's weights depend on: the host's own mark for a new merge."""

    @staticmethod
    def scale_of(p: Any) -> float:
        """Return the CFG scale of the coming pass."""
        return float(p.cfg_scale)

    @abstractmethod
    def _active_networks(self, own_ratios: Mapping[str, float]) -> tuple[list[Network], list[str]]:
        """Return the networks in the weights, and sentences on what of them cannot be weakened."""

    @abstractmethod
    def _models(self) -> Mapping[str, Model]:
        """Return the models that a full fine-tune changes, by what users call them."""

    @abstractmethod
    def _without_networks(self, module: nn.Module) -> Parameters | None:
        """Return a layer's parameters without any network; None where the host has not kept them."""

    def pristine(self, module: nn.Module) -> Parameters | None:
        of_base = self._kept.pristine(module, self._own) if self._kept else None
        return self._without_networks(module) if of_base is None else of_base

    @abstractmethod
    def is_product(self, module: nn.Module, forward: Callable[..., Any]) -> bool: ...

    @abstractmethod
    def weak_rows(self, total: int) -> Sequence[int]: ...

    @abstractmethod
    def _encode_null(self, ratios: Sequence[float]) -> Any:
        """Encode an empty negative prompt as the host does, its text encoder's networks at omega."""

    @abstractmethod
    def _null_for(self, null: Any, params: Any) -> Any:
        """Return the null prompt in the form of the step's uncond."""

    @abstractmethod
    def _before_unet(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _after_unet(self, unet: nn.Module, args: tuple[Any, ...], output: Any) -> Any: ...

    def is_for(self, model: Any) -> bool:
        """Whether the model and the networks in it are still those of this pass."""
        return model is self._model and self.signature(model) == self._loaded

    def end(self) -> None:
        """Detach everything; calling it again changes nothing."""
        try:
            self.run.__exit__(None, None, None)
        finally:  # telling the user may have failed
            if self._kept is not None:
                self._kept.end_pass()
            while self._handles:
                self._handles.pop().remove()

    def _sampling(self) -> Sampling:
        """Return how the pass samples; of an img2img pass it runs a part, with noise levels as far apart."""
        p = self._p
        second = getattr(p, "hr_second_pass_steps", 0) if getattr(p, "is_hr_pass", False) else 0
        return Sampling(int(second or p.steps), self.scale_of(p))

    @property
    def has_base(self) -> bool:
        """Whether the loaded checkpoint is weakened towards a base."""
        return self._kept is not None

    @property
    def was_left_out(self) -> bool:
        """Whether rows were to be weak, and the host has not run one of them."""
        return self._guided_calls > 0 and self.watch.steps_done > 0 and not self.run.ran

    def networks(self) -> Sequence[Network]:
        return self._networks

    def unet(self) -> nn.Module | None:
        return self.unet_of(self._model)

    def strengths(self) -> Sequence[float] | None:
        return None

    def settle(self, module: nn.Module) -> None:
        """Do nothing: the host has merged its networks before the pass."""
        return None

    def warn(self, message: str) -> None:
        self._warn(message)

    def null_prompt(self, ratios: Sequence[float]) -> Any:
        """Return the encoded null prompt, from an earlier pass where nothing has changed since."""
        pairs = zip(ratios, self._networks, strict=True)
        in_text = [n.parts["te"].weak_at(ratio) for ratio, n in pairs if "te" in n.parts]
        # The host's own list of what an encoded prompt depends on, and what else ours does.
        host_key = self._p.cached_params([""], 1, None, None, False)
        second = bool(getattr(self._p, "is_hr_pass", False))  # it may have a guidance of its own (Flux)
        key = (host_key, self._loaded, self._kept and self._kept.key, in_text, self._size(), second)
        return self._null_prompts.get(self._model, key, lambda: self._encode_null(ratios))

    def _compared(self, note: Callable[[str], None]) -> KeptBase | None:
        """Return what the checkpoint has learned since the settings' base; None where there is none.

        Args:
            note: is told why a base is not used.
        """
        title = self.settings.base_checkpoint
        if title == NO_CHECKPOINT or self.settings.mode == "CFG":
            forget_base(self._model)
            return None
        base = find_checkpoint(title)
        if base is None:
            forget_base(self._model)
            note(f"base checkpoint {title!r} is none of the host's; choose one of its list")
            return None
        loaded = self.checkpoint_of(self._model)
        key = (loaded, base, self._rank)
        try:
            return base_of(self._model, key, self._own, lambda own: self._compare(base, own))
        except NetworkError as error:
            note(f"base checkpoint not used. {error}")
            return None

    def _compare(self, base: Listed, own: Callable[[nn.Module], Parameters]) -> BaseCheckpoint:
        name = Path(self.checkpoint_of(self._model)).stem
        checkpoint = open_checkpoint(base.path)
        found = compare(checkpoint, self._models(), own, name, self._warn, self._rank)
        say(found.describe())
        return found

    def _own(self, module: nn.Module) -> Parameters:
        """Return a layer's parameters in the loaded checkpoint."""
        return {**parameters_used(module), **(self._without_networks(module) or {})}

    @staticmethod
    def checkpoint_of(model: Any) -> str:
        """Return the file of a host's model."""
        return str(model.sd_checkpoint_info.filename)

    def _size(self) -> tuple[int, int]:
        """Return width and height of the pass in pixels, which SDXL reads with the prompt."""
        if getattr(self._p, "is_hr_pass", False):
            return self._p.hr_upscale_to_x, self._p.hr_upscale_to_y
        return self._p.width, self._p.height

    def before_step(self, params: Any) -> None:
        """Decide what the coming evaluation is, and replace its uncond.

        Args:
            params: the host's CFGDenoiserParams; `text_uncond` is replaced.
        """
        self._uncond_rows = 0 if params.text_uncond is None else len(tokens(params.text_uncond))
        call = self.run.next_call(self.watch.steps_done, params.total_sampling_steps, len(params.x))
        one_prompt_each = len(tokens(params.text_cond)) == self._uncond_rows
        if call.weak_rows and not one_prompt_each and call.conditioning == "prompt":
            self.run.pass_over()
            self._warn("AG cannot guide a prompt with AND, so plain CFG is used; use PG")
        elif call.weak_rows and not one_prompt_each and call.skip_weak_rows:
            self.run.pass_over()
            self._warn("outside = None cannot be used with AND, so plain CFG is used there")
        elif call.conditioning == "prompt":
            params.text_uncond = params.text_cond
        elif call.null_prompt is not None:
            params.text_uncond = self._null_for(call.null_prompt, params)
        self._guided_calls += self.run.guides
        self.touched = self.touched or self.run.guides or self.run.skips_weak_rows


class _Hook(GuidanceHook):
    def __init__(self, call: Callable[..., Any], on_fault: Callable[[Exception], None]) -> None:
        self._call = call
        self._on_fault = on_fault

    def __call__(self, *args: Any) -> Any:
        try:
            return self._call(*args)
        except Exception as error:
            self._on_fault(error)
            return None
