"""A small stand-in of AUTOMATIC1111's sampling: names and call orders as the host has them, nothing else."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 6
FUSED = "transformer_attn_q_proj"  # not among the host's layers


class UNet(nn.Module):
    """Two layers, called as the host does: x (rows, 6), timesteps (rows,), context (rows, tokens, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.rows: list[int] = []

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.rows.append(len(x))
        x = self.conv(x[:, :, None, None])[:, :, 0, 0]
        return torch.tanh(self.linear(x + context.mean(1)))


class Model:
    """What `shared.sd_model` is."""

    def __init__(self) -> None:
        self.model = types.SimpleNamespace(diffusion_model=UNet())
        self.text_layer = nn.Linear(WIDTH, WIDTH, bias=False)
        self.text_weight = self.text_layer.weight.detach().clone()
        # Of a fused attention: the host merges into it, but never calls it as a layer.
        self.attention = nn.Linear(WIDTH, WIDTH, bias=False)
        self.attention_weight = self.attention.weight.detach().clone()
        self.merged: Any = []
        self.sd_checkpoint_info = object()
        unet = self.model.diffusion_model
        self.network_layer_mapping = {
            "diffusion_model_conv": unet.conv,
            "diffusion_model_linear": unet.linear,
            "transformer_text": self.text_layer,
        }

    def get_learned_conditioning(self, prompts: list[str]) -> Tensor:
        """One chunk of three tokens a prompt; the text encoder's network is merged anew, as the host does."""
        return torch.stack([self.encode(prompt) for prompt in prompts])

    def encode(self, prompt: str) -> Tensor:
        torch.manual_seed(sum(map(ord, prompt)))
        x = torch.randn(3, WIDTH)
        strengths = [(network, network.te_multiplier) for network in sys.modules["networks"].loaded_networks]
        if strengths != self.merged:  # the host writes weights anew only where a multiplier has changed
            for layer, weight, key in (
                (self.text_layer, self.text_weight, "transformer_text"),
                (self.attention, self.attention_weight, FUSED),
            ):
                total = weight.clone()
                for network, strength in strengths:
                    if part := network.modules.get(key):
                        total += strength * part.dense()
                layer.weight.copy_(total)
            self.merged = strengths
        return self.text_layer(x) @ self.attention.weight


class Denoiser(nn.Module):
    """What the host wraps its model in, anew for every pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.unet = model.model.diffusion_model

    def forward(self, x: Tensor, sigma: Tensor, *, cond: dict[str, list[Tensor]]) -> Tensor:
        return self.unet(x, sigma, context=torch.cat(cond["c_crossattn"], 1))


class LoraPart:
    """The host's NetworkModuleLora for one layer."""

    def __init__(self, network: Network, layer: nn.Module, seed: int) -> None:
        torch.manual_seed(seed)
        conv = isinstance(layer, nn.Conv2d)
        self.network = network
        self.down_model = nn.Conv2d(WIDTH, 2, 1, bias=False) if conv else nn.Linear(WIDTH, 2, bias=False)
        self.up_model = nn.Conv2d(2, WIDTH, 1, bias=False) if conv else nn.Linear(2, WIDTH, bias=False)
        self.mid_model = self.dora_scale = self.bias = None

    def calc_scale(self) -> float:
        return 0.5

    def dense(self) -> Tensor:
        rank = self.network.dyn_dim
        up, down = self.up_model.weight.flatten(1)[:, :rank], self.down_model.weight.flatten(1)[:rank]
        return self.calc_scale() * up @ down


@dataclass
class Network:
    """The host's own object of an active network."""

    name: str
    te_multiplier: float = 1.0
    unet_multiplier: float = 1.0
    dyn_dim: int | None = None
    modules: dict[str, Any] = field(default_factory=dict)
    mtime: float = 0.0
    fused: bool = False
    network_on_disk: Any = field(default_factory=lambda: types.SimpleNamespace(metadata={}))

    def __post_init__(self) -> None:
        self.mentioned_name = self.name


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
def host(networks: list[Network]) -> Iterator[Model]:
    """Have the host's modules importable, with a model in whose weights the networks are."""
    parser = types.ModuleType("modules.prompt_parser")
    parser.SdConditioning = conditioning  # type: ignore[attr-defined]
    lora = types.ModuleType("networks")
    lora.loaded_networks = networks  # type: ignore[attr-defined]
    package = types.ModuleType("modules")
    package.shared = types.SimpleNamespace(opts=types.SimpleNamespace())  # type: ignore[attr-defined]
    package.devices = types.SimpleNamespace(autocast=nullcontext)  # type: ignore[attr-defined]
    added = {"modules": package, "modules.prompt_parser": parser, "networks": lora}
    before = {name: sys.modules.get(name) for name in added}
    sys.modules.update(added)
    torch.manual_seed(0)
    model = Model()
    for index, network in enumerate(networks):
        for key, layer in model.network_layer_mapping.items():
            network.modules[key] = LoraPart(network, layer, index)
        if network.fused:
            network.modules[FUSED] = LoraPart(network, model.attention, index + 100)
    try:
        with torch.no_grad():
            merge(model, networks)
            yield model
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def merge(model: Model, networks: list[Network], ratio: float = 1.0) -> None:
    """Add `ratio` times every network to the U-Net's weights."""
    for network in networks:
        for key, part in network.modules.items():
            if key.startswith("diffusion_model"):
                weight = model.network_layer_mapping[key].weight
                weight += (ratio * network.unet_multiplier * part.dense()).view(weight.shape)


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
        torch.manual_seed(step * 10 + call)
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
