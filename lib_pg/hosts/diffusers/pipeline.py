"""Personalization guidance in Hugging Face diffusers: Stable Diffusion and SDXL pipelines.

    network = load_network(pipeline, Path("sks_dog.safetensors"))
    with installed([network]), guided(pipeline, [network], Settings(enabled=True)) as run:
        image = pipeline("a sks dog on a beach", guidance_scale=7.5).images[0]

The pipeline's own call runs as it is: hooks on its U-Net replace the branch, the pipeline combines.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.accelerators import Sampling
from lib_pg.deltas import ActiveNetwork, Additive, Delta, Parameters
from lib_pg.deltas.merge import merged, originals_of
from lib_pg.formats import match, read_network
from lib_pg.formats.errors import listed
from lib_pg.hosts.base_checkpoint import BaseCheckpoint
from lib_pg.hosts.diffusers.branches import PERTURBED, PROMPT, Batch, Layout, layout_of
from lib_pg.hosts.diffusers.compiled import uncompiled
from lib_pg.hosts.diffusers.models import models_of, own_adapters
from lib_pg.hosts.diffusers.perturbed import following_perturbed
from lib_pg.hosts.diffusers.unet_hook import EncodedPrompt, UNetHook, is_of_unet
from lib_pg.networks import Network
from lib_pg.run import GuidedRun
from lib_pg.settings import Settings
from lib_pg.weak_branch import is_torch_s, weakened

Warn = Callable[[str], None]

_log = logging.getLogger(__name__).warning


def load_network(
    pipeline: Any,
    path: Path,
    strength: float = 1.0,
    own_ratio: float | None = None,
    warn: Warn = _log,
    weak_strength: float | None = None,
    te_strength: float | None = None,
    name: str | None = None,
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
        te_strength: the multiplier for the text encoders; None stands for `strength`.
        name: what `Settings.networks` and messages call it; None takes the file's own. Files of one name
            are networks of their own all the same, and names only tell them apart.

    Raises:
        NetworkError: the file is damaged, holds no network, or is made for another model.
    """
    models = models_of(pipeline)
    file = read_network(path)
    name = file.name if name is None else name
    matched = match(file, models)
    if matched.unmatched or matched.unsupported:
        warn(matched.summary())
    parts = {}
    for component, deltas in matched.deltas.items():
        weight = next(models[component].parameters())
        there = {module: _placed(delta, weight) for module, delta in deltas.items()}
        if there:
            multiplier = strength if component == "unet" or te_strength is None else te_strength
            parts[component] = ActiveNetwork(name, there, multiplier)
    network = Network(name, parts, own_ratio, file.metadata)
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
    branches: Sequence[str] | None = None,
    fast: bool = False,
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
        branches: for a pipeline of your own: what its U-Net's batch is made of with CFG, in order, such as
            `("unconditional", "prompt")`.
        fast: spend memory on steps that take less time to start, as for `GuidedRun`.

    Raises:
        RuntimeError: the pipeline is guided already, or it is not known which rows of its batch are which.
        ValueError: `branches` are no branches.
    """
    unet = models_of(pipeline)["unet"]
    if any(map(is_of_unet, unet._forward_pre_hooks.values())):
        raise RuntimeError("this pipeline is guided already; leave that block before you guide it again")
    host = DiffusersHost(pipeline, networks, warn, base, branches)
    with ExitStack() as stack:
        if settings.enabled and settings.mode != "CFG":
            host.prepare()
            if stack.enter_context(uncompiled(pipeline)):
                host.warn("a compiled model runs uncompiled, which is slower, while it is guided")
        run = stack.enter_context(
            GuidedRun(host, settings, kept=base.kept if base else None, sampling=sampling, fast=fast)
        )
        hook = UNetHook(host, run)
        stack.callback(unet.register_forward_pre_hook(hook.before, with_kwargs=True).remove)
        stack.callback(unet.register_forward_hook(hook.after).remove)
        if PERTURBED in (branches or ()) or hasattr(pipeline, "set_pag_applied_layers"):
            stack.enter_context(following_perturbed(unet, hook, run))
        yield run


class DiffusersHost:
    """The host protocol for one pipeline."""

    def __init__(
        self,
        pipeline: Any,
        networks: Sequence[Network],
        warn: Warn,
        base: BaseCheckpoint | None = None,
        branches: Sequence[str] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._base = base
        self._branches = branches
        self._layout: Layout | None = None
        self._levels: tuple[Tensor, object, list[float]] | None = None
        # First, for networks are trained on top of it.
        self._networks = (*([base.network] if base else ()), *networks)
        self._warn = warn
        self._warned: set[str] = set()

    def prepare(self) -> None:
        """Learn the pipeline's rows, and tell what of it stays as it is; raises as `guided`."""
        self._layout = layout_of(self._pipeline, self._branches)
        if adapters := own_adapters(self._pipeline):
            self.warn(
                f"adapters that the pipeline has loaded itself keep their strength in the weak branch "
                f"({listed(adapters)}); to weaken one, load it with load_network instead"
            )

    def networks(self) -> Sequence[Network]:
        return self._networks

    def batch(self, total: int) -> Batch | None:
        """Return which of the U-Net's rows are which; None, which is said, where they cannot be told."""
        branches = self._layout(self._pipeline) if self._layout else (PROMPT,)
        if total % len(branches) == 0:
            return Batch(branches, total)
        self.warn(
            f"{type(self._pipeline).__name__} called its U-Net with {total} rows, no multiple of its "
            f"{len(branches)} branches ({', '.join(branches)}): such calls stay as they are"
        )
        return None

    def weak_rows(self, total: int) -> Sequence[int]:
        batch = self.batch(total)
        return batch.weak_rows if batch else ()

    def pristine(self, module: nn.Module) -> Parameters | None:
        of_base = self._base.pristine(module) if self._base else None
        return originals_of(module) if of_base is None else of_base

    def is_product(self, module: nn.Module, forward: Callable[..., Any]) -> bool:
        return is_torch_s(forward)

    def unet(self) -> nn.Module:
        return models_of(self._pipeline)["unet"]

    def strengths(self) -> None:
        return None

    def settle(self, module: nn.Module) -> None:
        """Nothing: strengths stay."""

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
            return _encoded_empty(pipeline)

    def warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._warn(message)

    def step_at(self, timestep: float) -> tuple[int, int]:
        """Return the sampling step of a noise level, and how many there are.

        Levels are counted, not calls: second-order schedulers call the U-Net twice at one level.
        """
        pipeline = self._pipeline
        key = (getattr(pipeline, "num_timesteps", None), getattr(pipeline, "denoising_end", None))
        timesteps = pipeline.scheduler.timesteps
        if self._levels is None or self._levels[0] is not timesteps or self._levels[1] != key:
            own = torch.unique_consecutive(_timesteps_of(pipeline)).double().tolist()
            self._levels = timesteps, key, own  # every call asks: a schedule costs no more than one omega
        levels = self._levels[2]
        return min(range(len(levels)), key=lambda step: abs(levels[step] - timestep)), len(levels)


def _timesteps_of(pipeline: Any) -> Tensor:
    """Return those timesteps of the scheduler that the pipeline's call runs.

    Image-to-image begins later; SDXL ends earlier where it is told to.
    """
    timesteps: Tensor = pipeline.scheduler.timesteps
    end = getattr(pipeline, "denoising_end", None)
    if isinstance(end, float) and 0 < end < 1:
        trained = pipeline.scheduler.config.num_train_timesteps
        timesteps = timesteps[: int((timesteps >= round(trained - end * trained)).sum())]
    return timesteps[-getattr(pipeline, "num_timesteps", len(timesteps)) :]


def _encoded_empty(pipeline: Any) -> EncodedPrompt:
    """Encode what the pipeline uses for no negative prompt."""
    if not hasattr(pipeline, "encode_prompt"):  # InstructPix2Pix; all of its rows are of the empty prompt
        return EncodedPrompt(pipeline._encode_prompt("", pipeline._execution_device, 1, True)[-1:])
    scale = (getattr(pipeline, "cross_attention_kwargs", None) or {}).get("scale")
    taken = inspect.signature(pipeline.encode_prompt).parameters
    count = "num_videos_per_prompt" if "num_videos_per_prompt" in taken else "num_images_per_prompt"
    _, negative, *pooled = pipeline.encode_prompt(
        prompt="",
        device=pipeline._execution_device,
        do_classifier_free_guidance=True,
        **{count: 1},
        **({} if scale is None else {"lora_scale": scale}),  # of the adapters that it has loaded itself
    )
    return EncodedPrompt(negative, pooled[1] if pooled else None)
