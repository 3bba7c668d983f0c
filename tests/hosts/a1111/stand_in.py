"""A small stand-in of AUTOMATIC1111's sampling: names and call orders as the host has them, nothing else."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.hosts.a1111.lora_extension import (
    Conv2d,
    GroupNorm,
    Linear,
    MultiheadAttention,
    Network,
    extension,
    make_parts,
)

WIDTH = 6


class UNet(nn.Module):
    """Three layers, called as the host does: x (rows, 6), timesteps (rows,), context (rows, tokens, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv2d(WIDTH, WIDTH, 1)
        self.norm = GroupNorm(2, WIDTH)
        self.linear = Linear(WIDTH, WIDTH)
        self.rows: list[int] = []

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.rows.append(len(x))
        x = self.norm(self.conv(x[:, :, None, None]))[:, :, 0, 0]
        return torch.tanh(self.linear(x + context.mean(1)))


def checkpoint(filename: str) -> Any:
    """What the host knows of a checkpoint on its disk."""
    path = Path(filename)
    return types.SimpleNamespace(
        filename=filename, name=path.name, name_for_extra=path.stem, title=f"{path.name} [0123456789]"
    )


class Model:
    """What `shared.sd_model` is."""

    def __init__(self) -> None:
        self.model = types.SimpleNamespace(diffusion_model=UNet())
        self.text_layer = Linear(WIDTH, WIDTH, bias=False)
        self.attention = MultiheadAttention(WIDTH, 2)  # OpenCLIP's, of one layer for q, k and v
        self.cond_stage_model = nn.ModuleDict({"text": self.text_layer, "attention": self.attention})
        self.sd_checkpoint_info = checkpoint("models/dream.safetensors")
        unet = self.model.diffusion_model
        self.network_layer_mapping = {
            "diffusion_model_conv": unet.conv,
            "diffusion_model_norm": unet.norm,
            "diffusion_model_linear": unet.linear,
            "transformer_text": self.text_layer,
            "transformer_attn": self.attention,
        }
        for name, layer in self.network_layer_mapping.items():
            layer.network_layer_name = name

    def get_learned_conditioning(self, prompts: list[str]) -> Tensor:
        """One chunk of three tokens a prompt."""
        return torch.stack([self.encode(prompt) for prompt in prompts])

    def encode(self, prompt: str) -> Tensor:
        torch.default_generator.manual_seed(sum(map(ord, prompt)))
        x = self.text_layer(torch.randn(3, 1, WIDTH))
        return self.attention(x, x, x, need_weights=False)[0][:, 0]


class Denoiser(nn.Module):
    """What the host wraps its model in, anew for every pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.unet = model.model.diffusion_model

    def forward(self, x: Tensor, sigma: Tensor, *, cond: dict[str, list[Tensor]]) -> Tensor:
        return self.unet(x, sigma, context=torch.cat(cond["c_crossattn"], 1))


class Sampler:
    def callback_state(self, state: Any) -> None:
        """Called by the host when a step is finished."""

    def launch_sampling(self, steps: int, func: Callable[[], Any]) -> Any:
        return func()


class Processing:
    """What the host calls `p`."""

    width = height = 64
    cfg_scale = 7.0
    hr_upscale_to_x = hr_upscale_to_y = 64
    steps = 20
    hr_second_pass_steps = 0

    def __init__(self) -> None:
        self.sampler = Sampler()
        self.extra_generation_params: dict[str, str] = {}
        self.comments: list[str] = []
        self.is_hr_pass = False
        self.hr_extra_network_data: Any = None

    def cached_params(
        self,
        required_prompts: list[str],
        steps: int,
        extra_network_data: Any,
        hires_steps: int | None = None,
        use_old_scheduling: bool = False,
    ) -> tuple[Any, ...]:
        """What an encoded prompt depends on."""
        return (required_prompts, steps, extra_network_data, hires_steps, use_old_scheduling)

    def comment(self, text: str) -> None:
        self.comments.append(text)


def conditioning(prompts: list[str], is_negative_prompt: bool, width: int, height: int) -> list[str]:
    """The host's SdConditioning; SDXL reads the size, so that a wrong one would show."""
    assert is_negative_prompt
    return [f"{prompt}{'' if (width, height) == (64, 64) else f' {width}x{height}'}" for prompt in prompts]


@contextmanager
def host(networks: list[Network], functional: bool = False) -> Iterator[Model]:
    """Have the host's modules importable, with a model in whose weights the networks are.

    Args:
        functional: the host's setting `lora_functional`: it adds networks in layers' forwards.
    """
    parser = types.ModuleType("modules.prompt_parser")
    parser.SdConditioning = conditioning  # type: ignore[attr-defined]
    opts = types.SimpleNamespace(lora_functional=functional)
    package = types.ModuleType("modules")
    package.shared = types.SimpleNamespace(opts=opts, loaded_hypernetworks=[])  # type: ignore[attr-defined]
    listed = types.ModuleType("modules.sd_models")
    listed.checkpoints_list = {}  # type: ignore[attr-defined]
    package.devices = types.SimpleNamespace(autocast=nullcontext)  # type: ignore[attr-defined]
    lora = extension(networks, functional)
    added = {
        "modules": package,
        "modules.prompt_parser": parser,
        "modules.sd_models": listed,
        "networks": lora,
    }
    before = {name: sys.modules.get(name) for name in added}
    sys.modules.update(added)
    torch.default_generator.manual_seed(0)
    model = Model()
    for index, network in enumerate(networks):
        make_parts(network, model.network_layer_mapping, index)
    own_forward, nn.Linear.forward = nn.Linear.forward, lora.network_Linear_forward  # type: ignore[method-assign]
    try:
        with torch.no_grad():
            yield model
    finally:
        nn.Linear.forward = own_forward  # type: ignore[method-assign]
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@dataclass
class Params:
    """The host's CFGDenoiserParams."""

    x: Tensor
    text_cond: Any
    text_uncond: Any
    sampling_step: int
    total_sampling_steps: int
    denoiser: Any


def sample(
    p: Processing,
    model: Model,
    callback: Callable[[Params], None],
    *,
    prompts: list[str],
    pictures: int,
    steps: int = 4,
    calls_a_step: int = 1,
    batch_cond_uncond: bool = True,
    skip_uncond: bool = False,
    negative: str = "ugly",
) -> list[Tensor]:
    """Run the host's loop; return the prediction of all rows at every call of its denoiser.

    Args:
        prompts: one for each picture, or more where a prompt has AND.
        calls_a_step: 2 for second-order samplers.
    """
    predictions: list[Tensor] = []
    finished = p.sampler.callback_state
    denoiser = types.SimpleNamespace(p=p, inner_model=Denoiser(model))

    def loop() -> None:
        for step in range(steps):
            for call in range(calls_a_step):
                predictions.append(evaluate(step, call))
            finished({"i": step})

    def evaluate(step: int, call: int) -> Tensor:
        torch.default_generator.manual_seed(step * 10 + call)
        rows = len(prompts) + pictures
        params = Params(
            x=torch.randn(rows, WIDTH),
            text_cond=model.get_learned_conditioning(prompts),
            text_uncond=model.get_learned_conditioning([negative] * pictures),
            sampling_step=max(step - 1, 0),
            total_sampling_steps=steps,
            denoiser=denoiser,
        )
        callback(params)
        text = torch.cat([params.text_cond, params.text_uncond])
        if skip_uncond:
            rows, text = len(prompts), params.text_cond
        size = rows if batch_cond_uncond else pictures
        parts = [
            denoiser.inner_model(
                params.x[at : at + size], torch.zeros(size), cond={"c_crossattn": [text[at : at + size]]}
            )
            for at in range(0, rows, size)
        ]
        return torch.cat(parts)

    p.sampler.launch_sampling(steps, loop)
    return predictions
