"""Personalization guidance in Hugging Face diffusers: Stable Diffusion and SDXL pipelines.

    network = load_network(pipeline, Path("sks_dog.safetensors"))
    with installed([network]), guided(pipeline, [network], Settings(enabled=True)) as run:
        image = pipeline("a sks dog on a beach", guidance_scale=7.5).images[0]

The pipeline's own call runs as it is: hooks on its U-Net replace the branch, the pipeline combines.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.accelerators import Sampling
from lib_pg.deltas import ActiveNetwork, Additive, Delta, Parameters
from lib_pg.deltas.merge import merged, originals_of
from lib_pg.formats import match, read_network
from lib_pg.hosts.base_checkpoint import BaseCheckpoint
from lib_pg.hosts.diffusers.models import models_of
from lib_pg.networks import Network
from lib_pg.run import Call, GuidedRun
from lib_pg.settings import Settings
from lib_pg.weak_branch import take_rows, weakened

Warn = Callable[[str], None]

_log = logging.getLogger(__name__).warning


@dataclass(frozen=True, eq=False)
class EncodedPrompt:
    """An encoded prompt: `embeds` (1, tokens, width) and, for SDXL, `pooled` (1, width)."""

    embeds: Tensor
    pooled: Tensor | None = None


def load_network(
    pipeline: Any,
    path: Path,
    strength: float = 1.0,
    own_ratio: float | None = None,
    warn: Warn = _log,
    weak_strength: float | None = None,
) -> Network:
    """Read a network file for a pipeline's models; nothing is changed yet.

    Args:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline, or one derived from their parts.
        path: a .safetensors file in kohya, LyCORIS, diffusers or PEFT naming.
        strength: the multiplier at which it will be installed.
        own_ratio: omega in [0, 1] for this network alone; None follows the settings.
        warn: is told which parts of the file fit nothing.
        weak_strength: the multiplier in the weak branch, whatever omega is, in [-2, 2]; None follows omega.
            With `strength` 0 it is a network that only the weak branch has.

    Raises:
        NetworkError: the file is damaged, holds no network, or is made for another model.
    """
    models = models_of(pipeline)
    file = read_network(path)
    matched = match(file, models)
    if matched.unmatched or matched.unsupported:
        warn(matched.summary())
    parts = {}
    for component, deltas in matched.deltas.items():
        weight = next(models[component].parameters())
        there = {module: _placed(delta, weight) for module, delta in deltas.items()}
        if there:
            parts[component] = ActiveNetwork(file.name, there, strength)
    network = Network(file.name, parts, own_ratio, file.metadata)
    return network.with_weak_strength(weak_strength)


def _placed(delta: Delta, weight: Tensor) -> Delta:
    """Return a delta on a model's device; cheap ones are multiplied with, and have the model's type."""
    if isinstance(delta, Additive):
        return delta.to(weight.device, weight.dtype)
    return delta.on(weight.device)


@contextmanager
def installed(networks: Sequence[Network]) -> Iterator[None]:
    """Have the networks in the pipeline's weights for the block; afterwards these are bit-identical."""
    with merged([part for network in networks for part in network.parts.values()]):
        yield


@contextmanager
def guided(
    pipeline: Any,
    networks: Sequence[Network],
    settings: Settings,
    warn: Warn = _log,
    base: BaseCheckpoint | None = None,
    sampling: Sampling | None = None,
) -> Iterator[GuidedRun[EncodedPrompt]]:
    """Guide every call of `pipeline` in the block; afterwards no hook is left.

    Args:
        pipeline: as for `load_network`, with any scheduler.
        networks: those that are in its weights now (`installed`).
        settings: PG, AG or CFG and their controls. Set the CFG scale in the pipeline's call as usual.
        warn: is told, once for each message, what would surprise the user.
        base: what the pipeline's checkpoint started from (`load_base_checkpoint`), for a full fine-tune.
        sampling: `Sampling(num_inference_steps, guidance_scale)` of the calls to come, where it is known:
            it says whether accelerators (LCM, Turbo, ...) are needed; without it they are not weakened.

    Raises:
        RuntimeError: the pipeline is guided already.
    """
    host = DiffusersHost(pipeline, networks, warn, base)
    if any(isinstance(hook, _UNetHook) for hook in pipeline.unet._forward_pre_hooks.values()):
        raise RuntimeError("this pipeline is guided already; leave that block before you guide it again")
    with ExitStack() as stack:
        run = stack.enter_context(
            GuidedRun(host, settings, kept=base.kept if base else None, sampling=sampling)
        )
        hook = _UNetHook(host, run)
        stack.callback(pipeline.unet.register_forward_pre_hook(hook, with_kwargs=True).remove)
        stack.callback(pipeline.unet.register_forward_hook(hook.restore_rows).remove)
        yield run


class DiffusersHost:
    """The host protocol for one pipeline."""

    def __init__(
        self, pipeline: Any, networks: Sequence[Network], warn: Warn, base: BaseCheckpoint | None = None
    ) -> None:
        self._pipeline = pipeline
        self._base = base
        # First, for networks are trained on top of it.
        self._networks = (*([base.network] if base else ()), *networks)
        self._warn = warn
        self._warned: set[str] = set()

    def networks(self) -> Sequence[Network]:
        return self._networks

    def weak_rows(self, total: int) -> Sequence[int]:
        """The first half: the pipelines put the negative prompt's rows before the prompt's."""
        return range(total // 2) if self._pipeline.do_classifier_free_guidance else ()

    def pristine(self, module: nn.Module) -> Parameters | None:
        of_base = self._base.pristine(module) if self._base else None
        return originals_of(module) if of_base is None else of_base

    def unet(self) -> nn.Module:
        unet: nn.Module = self._pipeline.unet
        return unet

    def strengths(self) -> None:
        return None

    def null_prompt(self, ratios: Sequence[float]) -> EncodedPrompt:
        pipeline = self._pipeline
        with ExitStack() as stack, torch.no_grad():
            for component in models_of(pipeline).keys() - {"unet"}:
                adapting = [
                    (network.parts[component], ratio)
                    for network, ratio in zip(self._networks, ratios, strict=True)
                    if component in network.parts
                ]
                parts, omegas = [part for part, _ in adapting], [omega for _, omega in adapting]
                stack.enter_context(weakened(parts, omegas, self.pristine))
            _, negative, *pooled = pipeline.encode_prompt(
                prompt="",
                device=pipeline._execution_device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=True,
            )
        return EncodedPrompt(negative, pooled[1] if pooled else None)

    def warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)

    def step_at(self, timestep: float) -> tuple[int, int]:
        """Return the sampling step of a noise level, and how many there are.

        Levels are counted, not calls: second-order schedulers call the U-Net twice at one level.
        """
        pipeline = self._pipeline
        timesteps = pipeline.scheduler.timesteps
        count = pipeline.num_timesteps
        # image-to-image runs the last part of the schedule, `denoising_end` of SDXL the first
        ends_early = getattr(pipeline, "denoising_end", None) is not None
        levels = torch.unique_consecutive(timesteps[:count] if ends_early else timesteps[-count:]).double()
        return int((levels.cpu() - timestep).abs().argmin()), len(levels)


class _UNetHook:
    """The hook before each call of the U-Net: puts what the run decides into its inputs."""

    def __init__(self, host: DiffusersHost, run: GuidedRun[EncodedPrompt]) -> None:
        self._host = host
        self._run = run
        self._skipping = False

    def __call__(
        self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        sample, timestep = args[0], args[1]
        total = len(sample)
        step, steps = self._host.step_at(float(timestep)) if self._run.follows_steps else (0, 1)
        call = self._run.next_call(step, steps, total)
        self._run.enter_unet(total)
        self._skipping = call.skip_weak_rows
        if self._skipping:
            strong = slice(len(call.weak_rows), total)
            return take_rows(args, strong, total), take_rows(kwargs, strong, total)
        if call.conditioning == "negative":
            return args, kwargs
        return args, _with_weak_conditioning(kwargs, call)

    def restore_rows(self, unet: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The hook after it: gives skipped rows the prediction of the others."""
        self._run.leave_unet()
        if not self._skipping:
            return None
        (prediction,) = output  # the pipelines ask for a tuple
        return (torch.cat([prediction, prediction]),)


def _with_weak_conditioning(kwargs: Mapping[str, Any], call: Call[EncodedPrompt]) -> dict[str, Any]:
    """Return the U-Net's arguments with other text in the weak rows, which come first."""
    weak = len(call.weak_rows)
    text = kwargs["encoder_hidden_states"]
    added = kwargs.get("added_cond_kwargs")
    null = call.null_prompt
    if null is None:  # autoguidance: the prompt itself, with all that belongs to it
        text = _replace(text, text[weak:])
        if added:
            sdxl = {key: _replace(added[key], added[key][weak:]) for key in ("text_embeds", "time_ids")}
            added = {**added, **sdxl}
    else:
        text = _replace(text, _fit_tokens(null.embeds.to(text), text.shape[1]).expand(weak, -1, -1))
        if added and null.pooled is not None:
            pooled = null.pooled.to(added["text_embeds"]).expand(weak, -1)
            added = {**added, "text_embeds": _replace(added["text_embeds"], pooled)}
    return {**kwargs, "encoder_hidden_states": text, "added_cond_kwargs": added}


def _replace(rows: Tensor, weak: Tensor) -> Tensor:
    return torch.cat([weak, rows[len(weak) :]])


def _fit_tokens(embeds: Tensor, tokens: int) -> Tensor:
    """Repeat the null prompt's chunk to the length of a long prompt, so that both stay one batch."""
    return embeds.repeat(1, math.ceil(tokens / embeds.shape[1]), 1)[:, :tokens]
