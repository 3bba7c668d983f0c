"""Random network files for given models, and tiny models. Nothing here uses `lib_pg.formats`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

TEXT_WIDTH = 32
DOTTED = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
OLD_TEXT_NAMES = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def tiny_unet(xl: bool = False, **changes: object) -> UNet2DConditionModel:
    """A U-Net with the structure of SD 1.x, or of SDXL, of a few narrow layers."""
    config: dict[str, object] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    if xl:
        config |= {
            "block_out_channels": (8, 16, 24),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 1, 2),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 80,
        }
    return UNet2DConditionModel(**(config | changes))


def tiny_text_encoder(projection: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
    )
    return CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)


def adapted_layers(model: nn.Module, conv: bool = True) -> dict[str, nn.Module]:
    """All linear layers of a model and, unless `conv` is off, all convolutions, by path."""
    kinds = (nn.Linear, nn.Conv2d) if conv else (nn.Linear,)
    return {path: module for path, module in model.named_modules() if isinstance(module, kinds)}


@dataclass(frozen=True)
class Factors:
    """Random factors of one layer as files have them, and what they multiply to."""

    down: Tensor
    up: Tensor
    mid: Tensor | None
    alpha: float | None

    def dense(self) -> Tensor:
        """dW by a loop over the rank."""
        rank, out = self.down.shape[0], self.up.shape[0]
        down, up = self.down.float(), self.up.float().reshape(out, rank)
        total = torch.zeros(())
        for i in range(rank):
            if self.mid is not None:
                row = sum(self.mid.float()[i, j] * down[j, :].reshape(-1, 1, 1) for j in range(rank))
            else:
                row = down[i]
            total = total + up[:, i].reshape(-1, *[1] * row.ndim) * row
        return total * (1.0 if self.alpha is None else self.alpha / rank)


def random_factors(
    module: nn.Module, rank: int, alpha: float | None, dtype: torch.dtype, seed: int, tucker: bool = False
) -> Factors:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) * 0.3).to(dtype)

    if isinstance(module, nn.Linear):
        return Factors(noise(rank, module.in_features), noise(module.out_features, rank), None, alpha)
    assert isinstance(module, nn.Conv2d)
    up = noise(module.out_channels, rank, 1, 1)
    if tucker and module.kernel_size != (1, 1):
        mid = noise(rank, rank, *module.kernel_size)
        return Factors(noise(rank, module.in_channels, 1, 1), up, mid, alpha)
    return Factors(noise(rank, module.in_channels, *module.kernel_size), up, None, alpha)


def random_kohya_file(
    path: Path,
    unet: nn.Module | None = None,
    te1: nn.Module | None = None,
    te2: nn.Module | None = None,
    *,
    rank: int = 4,
    alpha: float | None = 2.0,
    seed: int = 0,
    conv: bool = True,
    dtype: torch.dtype = torch.float32,
    ldm: bool = False,
    tucker: bool = False,
    te1_prefix: str = "lora_te_",
    only: Callable[[str], bool] = lambda path: True,
    metadata: Mapping[str, str] | None = None,
) -> dict[nn.Module, Tensor]:
    """Write a network on all layers of the given models in kohya naming; return dW by layer.

    Args:
        ldm: name the U-Net's layers as the original code does (kohya's habit for SDXL).
        tucker: give k x k convolutions a core (`lora_mid`).
        only: which of a model's module paths to adapt.
    """
    tensors: dict[str, Tensor] = {}
    dense: dict[nn.Module, Tensor] = {}
    prefixes = {"unet": "lora_unet_", "te1": te1_prefix, "te2": "lora_te2_"}
    for component, model in (("unet", unet), ("te1", te1), ("te2", te2)):
        names = ldm_paths(model) if ldm and component == "unet" and model is not None else {}
        for layer, module in adapted_layers(model, conv).items() if model is not None else ():
            if not only(layer) or (names and layer not in names):
                continue
            factors = random_factors(module, rank, alpha, dtype, seed + len(dense), tucker)
            full = names.get(layer, layer if component == "unet" else _with_root(layer))
            stem = prefixes[component] + full.replace(".", "_")
            tensors |= {f"{stem}.lora_down.weight": factors.down, f"{stem}.lora_up.weight": factors.up}
            if factors.mid is not None:
                tensors[f"{stem}.lora_mid.weight"] = factors.mid
            if factors.alpha is not None:
                tensors[f"{stem}.alpha"] = torch.tensor(factors.alpha).to(dtype)
            dense[module] = factors.dense()
    save_file(tensors, path, dict(metadata or {}))
    return dense


def random_peft_file(
    path: Path,
    unet: nn.Module | None = None,
    te1: nn.Module | None = None,
    te2: nn.Module | None = None,
    *,
    style: str = "peft",
    rank: int = 4,
    seed: int = 0,
    conv: bool = True,
    dtype: torch.dtype = torch.float32,
    prefix: Callable[[str], str] = lambda component: f"{DOTTED[component]}.",
    only: Callable[[str], bool] = lambda path: True,
    alphas: Mapping[nn.Module, float] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[nn.Module, Tensor]:
    """Write a network in dotted naming; return dW by layer.

    Args:
        style: 'peft' (lora_A), 'diffusers' (lora.down) or 'old' (attention processors, attention only).
        alphas: the alphas that dW is computed with; the caller puts them into `metadata`.
    """
    tensors: dict[str, Tensor] = {}
    dense: dict[nn.Module, Tensor] = {}
    for component, model in (("unet", unet), ("te1", te1), ("te2", te2)):
        for layer, module in adapted_layers(model, conv).items() if model is not None else ():
            if not only(layer):
                continue
            alpha = (alphas or {}).get(module)
            factors = random_factors(module, rank, alpha, dtype, seed + len(dense))
            full = layer if component == "unet" else _with_root(layer)
            down, up = _dotted(component, full, style)
            tensors |= {prefix(component) + down: factors.down, prefix(component) + up: factors.up}
            dense[module] = factors.dense()
    save_file(tensors, path, dict(metadata or {}))
    return dense


def _with_root(layer: str) -> str:
    """The path as in transformers 4, whose names files have."""
    return layer if layer.startswith(("text_model.", "text_projection")) else f"text_model.{layer}"


def _dotted(component: str, layer: str, style: str) -> tuple[str, str]:
    if style == "peft":
        return f"{layer}.lora_A.weight", f"{layer}.lora_B.weight"
    if style == "diffusers":
        word = "lora" if component == "unet" else "lora_linear_layer"
        return f"{layer}.{word}.down.weight", f"{layer}.{word}.up.weight"
    parent, _, name = layer.removesuffix(".0").rpartition(".")
    if component == "unet":
        parent += ".processor"
    stem = f"{parent}.{OLD_TEXT_NAMES.get(name, name)}_lora"
    return f"{stem}.down.weight", f"{stem}.up.weight"


def ldm_paths(unet: nn.Module) -> dict[str, str]:
    """The original path of each layer by its diffusers path, from diffusers' own checkpoint conversion."""
    config = dict(unet.config)
    layout = ldm_layout(config)
    markers = {f"model.diffusion_model.{path}.weight": torch.tensor(i) for i, path in enumerate(layout)}
    bias = {f"model.diffusion_model.{path}.bias": torch.tensor(-1) for path in layout}
    converted = convert_ldm_unet_checkpoint(markers | bias, config)
    return {
        key.removesuffix(".weight"): layout[int(marker)]
        for key, marker in converted.items()
        if key.endswith(".weight")
    }


def ldm_layout(config: Mapping[str, object]) -> list[str]:
    """Paths of all linear layers and convolutions of the original U-Net, in the order it builds them."""
    widths, count = list(config["block_out_channels"]), config["layers_per_block"]
    depths = config["transformer_layers_per_block"]
    depths = [depths] * len(widths) if isinstance(depths, int) else list(depths)
    attends = ["CrossAttn" in kind for kind in config["down_block_types"]]
    paths = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.2"]
    if config.get("addition_embed_type") == "text_time":
        paths += ["label_emb.0.0", "label_emb.0.2"]
    number, width = 1, widths[0]
    for level, wanted in enumerate(widths):
        for _ in range(count):
            paths += _ldm_resnet(f"input_blocks.{number}.0", width != wanted)
            paths += _ldm_attention(f"input_blocks.{number}.1", depths[level]) if attends[level] else []
            number, width = number + 1, wanted
        if level < len(widths) - 1:
            paths.append(f"input_blocks.{number}.0.op")
            number += 1
    paths += _ldm_resnet("middle_block.0", False) + _ldm_attention("middle_block.1", depths[-1])
    paths += _ldm_resnet("middle_block.2", False)
    number = 0
    for level in reversed(range(len(widths))):
        for place in range(count + 1):
            paths += _ldm_resnet(f"output_blocks.{number}.0", True)
            paths += _ldm_attention(f"output_blocks.{number}.1", depths[level]) if attends[level] else []
            if level and place == count:
                paths.append(f"output_blocks.{number}.{2 if attends[level] else 1}.conv")
            number += 1
    return paths


def _ldm_resnet(path: str, shortcut: bool) -> list[str]:
    names = ["in_layers.2", "emb_layers.1", "out_layers.3"] + ["skip_connection"] * shortcut
    return [f"{path}.{name}" for name in names]


def _ldm_attention(path: str, depth: int) -> list[str]:
    heads = [f"attn{i}.{name}" for i in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
    names = [*heads, "ff.net.0.proj", "ff.net.2"]
    blocks = [f"transformer_blocks.{i}.{name}" for i in range(depth) for name in names]
    return [f"{path}.{name}" for name in ("proj_in", *blocks, "proj_out")]
