"""A small stand-in of the models of Forge and its relatives: their names and forms, nothing else.

`forge_networks.py` has the networks in them, `forge_sampling.py` the loop that calls them.
"""

from __future__ import annotations

import copy
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Kind = Literal["Forge", "reForge", "Forge Classic", "Forge Neo"]

WIDTH = 6


class Linear(nn.Module):
    """The hosts' own linear layer, which is no `torch.nn.Linear`."""

    parameters_manual_cast = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.4, requires_grad=False)
        self.bias = nn.Parameter(torch.randn(outputs) * 0.1, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        for merged in getattr(self, "weight_function", ()):  # Neo's layers that are kept in main memory
            weight = merged(weight)
        return functional.linear(x, weight, self.bias)


# What the layer is called in Forge.
Linear.forward.__module__ = "backend.operations"
Linear.forward.__qualname__ = "ForgeOperations.Linear.forward"


class UNet(nn.Module):
    """A few layers, called as the hosts do; q, k and v are one of them.

    Attributes:
        calls: rows and branches of every call.
        is_loaded: whether it is where it runs; encoding a prompt pushes it away.
        calls_elsewhere: number of calls where it was not.
        fault: what the call of that number raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.GroupNorm(2, WIDTH)
        self.point = nn.Conv2d(WIDTH, WIDTH, 1)
        self.qkv = Linear(WIDTH, 3 * WIDTH)
        self.out = Linear(WIDTH, WIDTH)
        self.calls: list[tuple[int, list[int]]] = []
        self.is_loaded = False
        self.calls_elsewhere = 0
        self.fault: tuple[int, BaseException] | None = None

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        guidance: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
    ) -> Tensor:
        self.calls_elsewhere += not self.is_loaded
        self.calls.append((len(x), [*transformer_options["cond_or_uncond"]]))
        if self.fault is not None and self.fault[0] == len(self.calls):
            raise self.fault[1]
        pixels = self.point(self.norm(torch.tanh(self.conv(x)))).flatten(2).transpose(1, 2)
        pixels = pixels + context.mean(1, keepdim=True)
        pixels = pixels if y is None else pixels + y[:, None]
        pixels = pixels if guidance is None else pixels + guidance[:, None, None]
        q, k, v = self.qkv(pixels).chunk(3, -1)
        mixed = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        return self.out(mixed).transpose(1, 2).reshape(x.shape)


class UnetPatcher:
    """A model with the patches of its weights: by file in Forge, by weight in its relatives."""

    def __init__(self, model: nn.Module, kind: Kind) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        if kind in ("Forge", "Forge Neo"):  # Neo's stays empty
            self.lora_patches: dict[Any, Any] = {}
        if kind != "Forge":
            self.patches: dict[str, list[Any]] = {}

    def clone(self) -> UnetPatcher:
        twin = copy.copy(self)
        if hasattr(self, "patches"):
            twin.patches = {key: [*patches] for key, patches in self.patches.items()}
        else:
            twin.lora_patches = {**self.lora_patches}
        twin.model_options = copy.deepcopy(self.model_options)
        return twin

    def add_conditioning_modifier(self, modifier: Any, ensure_uniqueness: bool = False) -> None:
        self.model_options.setdefault("conditioning_modifiers", []).append(modifier)


@dataclass
class ForgeObjects:
    unet: UnetPatcher
    clip: Any

    def shallow_copy(self) -> ForgeObjects:
        return ForgeObjects(self.unet, self.clip)


class Engine:
    """What `shared.sd_model` is.

    Args:
        family: what an encoded prompt is: a tensor (SD), a dict (SDXL), or one with a guidance (Flux).
    """

    def __init__(self, kind: Kind = "Forge", family: Literal["SD", "SDXL", "Flux"] = "SD") -> None:
        torch.default_generator.manual_seed(0)
        self.kind, self.family = kind, family
        self.unet = UNet()
        self.text_layer = Linear(WIDTH, WIDTH)
        models = _tree("diffusion_model", self.unet), _tree("clip_l.layer", self.text_layer)
        self.pristine = [{name: w.clone() for name, w in model.named_parameters()} for model in models]
        unet, text = (UnetPatcher(model, kind) for model in models)
        clip_l = types.SimpleNamespace(transformer=nn.ModuleDict({"layer": self.text_layer}))
        self.encoders = encoders = types.SimpleNamespace(clip_l=clip_l)
        self.sd_checkpoint_info = checkpoint("models/dream.safetensors")
        self.forge_objects_original = ForgeObjects(
            unet, types.SimpleNamespace(patcher=text, cond_stage_model=encoders)
        )
        self.forge_objects = self.forge_objects_after_applying_lora = self.forge_objects_original
        self.current_lora_hash = "[]"
        self.encoded: list[str] = []
        if kind == "Forge":
            self.clip_skips: list[int] = []
            self.set_clip_skip = self.clip_skips.append

    def get_learned_conditioning(self, prompts: list[str]) -> Any:
        """Three tokens for every 20 characters of the longest prompt."""
        self.unet.is_loaded = False
        self.encoded += prompts
        count = 3 * (1 + max(map(len, prompts)) // 20)
        text = self.text_layer(torch.stack([_noise(prompt, count) for prompt in prompts]))
        if self.family == "SD":
            return text
        if self.family == "SDXL" and getattr(prompts, "is_negative_prompt", False) and not any(prompts):
            text = torch.zeros_like(text)
        encoded = {"crossattn": text, "vector": text.mean(1) + getattr(prompts, "width", 64) / 100}
        if self.family == "Flux":
            scale = getattr(prompts, "distilled_cfg_scale", None) or 3.5
            encoded["guidance"] = torch.full((len(prompts),), scale / 10)
        return encoded


def _tree(path: str, module: nn.Module) -> nn.Module:
    """Return a model that has a module at a path."""
    for name in reversed(path.split(".")):
        whole = nn.Module()
        setattr(whole, name, module)
        module = whole
    return module.requires_grad_(False)


def _noise(prompt: str, count: int) -> Tensor:
    seed = sum(place * ord(letter) for place, letter in enumerate(prompt, 1))
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


class SdConditioning(list[str]):
    def __init__(
        self,
        prompts: list[str],
        is_negative_prompt: bool = False,
        width: int | None = None,
        height: int | None = None,
        copy_from: Any = None,
        distilled_cfg_scale: float | None = None,
    ) -> None:
        super().__init__(prompts)
        self.is_negative_prompt, self.width, self.height = is_negative_prompt, width, height
        self.distilled_cfg_scale = distilled_cfg_scale


def checkpoint(filename: str) -> Any:
    """What the host knows of a checkpoint on its disk."""
    path = Path(filename)
    return types.SimpleNamespace(
        filename=filename, name=path.name, name_for_extra=path.stem, title=f"{path.name} [0123456789]"
    )
