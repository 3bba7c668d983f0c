"""Networks of every kind as LyCORIS and PEFT write them, and the layers as those libraries merge them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from safetensors.torch import save_file
from torch import Tensor, nn

LAYER = "mid_block_resnets_0_layer"


@dataclass(frozen=True)
class Example:
    """A network for one layer.

    Attributes:
        path: its file, or the folder of PEFT's.
        layer: the layer without it.
        merged: by name, the parameters that the library changes, at strength 1.
    """

    path: Path
    layer: nn.Module
    merged: dict[str, Tensor]


def linear() -> nn.Module:
    return nn.Linear(12, 16)


def bare_linear() -> nn.Module:
    return nn.Linear(12, 16, bias=False)


def convolution() -> nn.Module:
    return nn.Conv2d(6, 8, 3, padding=1)


def pixelwise() -> nn.Module:
    return nn.Conv2d(6, 8, 1)


def grouped() -> nn.Module:
    return nn.Conv2d(6, 8, 3, padding=1, groups=2)


def strided() -> nn.Module:
    return nn.Conv2d(6, 8, 3, padding=1, stride=2)


def lycoris_network(
    kind: Callable[..., nn.Module], layer: nn.Module, **options: object
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a random network's tensors as LyCORIS saves them, and what it makes of the layer."""
    module = kind("x", layer, 1.0, **options)
    _fill(module)
    if isinstance(module, FullModule):  # its file has what training has moved it by
        module.weight.add_(layer.weight)
        if module.bias is not None:
            module.bias.add_(layer.bias)
        module.is_diff = False
    tensors = {name: value.detach().clone().contiguous() for name, value in module.state_dict().items()}
    weight, bias = _merged(module, layer)
    merged = {"weight": weight.detach()}
    if bias is not None:
        merged["bias"] = bias.detach()
    return tensors, merged


def lycoris(kind: Callable[..., nn.Module], **options: object) -> Callable[..., Example]:
    def make(folder: Path, layer: nn.Module) -> Example:
        tensors, merged = lycoris_network(kind, layer, **options)
        path = folder / f"{kind.__name__}.safetensors"
        save_file({f"lora_unet_{LAYER}.{name}": value for name, value in tensors.items()}, path)
        return Example(path, layer, merged)

    return make


def _merged(module: nn.Module, layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    if not isinstance(module, (LohaModule, LokrModule)):
        return module.get_merged_weight(1.0, layer.weight.shape)
    # As its forward has it: alpha / rank once. `get_merged_weight` of 4.1.3 has it twice.
    weight = layer.weight + module.get_weight(layer.weight.shape)
    return (module.apply_weight_decompose(weight, 1.0) if module.wd else weight), None


def from_peft(kind: type, **options: object) -> Callable[..., Example]:
    def make(folder: Path, layer: nn.Module) -> Example:
        model = nn.Module()
        model.add_module(LAYER, copy.deepcopy(layer))
        wrapped = peft.get_peft_model(model, kind(target_modules=[LAYER], **options))
        _fill(wrapped, only=lambda name: "base_layer" not in name)
        folder = folder / f"a {kind.__name__}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it takes a bias for a factor that was cut short
            wrapped.save_pretrained(str(folder))
        merged = getattr(wrapped.merge_and_unload(), LAYER)
        return Example(folder, layer, {name: value.detach() for name, value in merged.named_parameters()})

    return make


def _fill(module: nn.Module, only: Callable[[str], bool] = lambda name: True) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if only(name):
                parameter.copy_(torch.randn_like(parameter) * 0.3)
                if any(part in name for part in ("dora_scale", "magnitude", "rescale", "ia3_l")):
                    parameter.abs_().add_(0.5)


# What makes a network of each kind, and the layers that the kind is for.
KINDS: dict[str, tuple[Callable[..., Example], tuple[Callable[[], nn.Module], ...]]] = {
    "LoRA": (lycoris(LoConModule, lora_dim=3, alpha=2), (linear, convolution, pixelwise, strided)),
    "LoRA, Tucker": (lycoris(LoConModule, lora_dim=3, alpha=2, use_tucker=True), (convolution,)),
    "DoRA by output": (
        lycoris(LoConModule, lora_dim=3, alpha=2, weight_decompose=True, wd_on_out=True),
        (linear, bare_linear, convolution, strided),
    ),
    "DoRA by input": (
        lycoris(LoConModule, lora_dim=3, alpha=2, weight_decompose=True, wd_on_out=False),
        (linear, bare_linear, convolution, strided),
    ),
    "LoHa": (lycoris(LohaModule, lora_dim=3, alpha=2), (linear, convolution, grouped, strided)),
    "LoHa, Tucker": (lycoris(LohaModule, lora_dim=3, alpha=2, use_tucker=True), (convolution,)),
    "LoHa with DoRA": (
        lycoris(LohaModule, lora_dim=3, alpha=2, weight_decompose=True),
        (linear, convolution),
    ),
    "LoKr": (lycoris(LokrModule, lora_dim=2, alpha=1, factor=2), (linear, pixelwise)),
    "LoKr, whole": (lycoris(LokrModule, lora_dim=9999, alpha=1, factor=2), (linear, convolution, strided)),
    "LoKr, both low": (
        lycoris(LokrModule, lora_dim=1, alpha=2, factor=4, decompose_both=True),
        (linear, convolution),
    ),
    "LoKr, Tucker": (
        lycoris(LokrModule, lora_dim=1, alpha=2, factor=2, use_tucker=True),
        (convolution,),
    ),
    "LoKr with DoRA": (
        lycoris(LokrModule, lora_dim=2, alpha=1, factor=2, weight_decompose=True),
        (linear, convolution),
    ),
    "GLoRA": (lycoris(GLoRAModule, lora_dim=3, alpha=2), (linear, bare_linear, convolution, strided)),
    "(IA)3 by output": (lycoris(IA3Module), (linear, bare_linear, convolution, grouped)),
    "(IA)3 by input": (
        lycoris(IA3Module, train_on_input=True),
        (linear, bare_linear, convolution, strided),
    ),
    "OFT": (lycoris(DiagOFTModule, lora_dim=4), (linear, bare_linear, convolution, strided)),
    "OFT, bounded and rescaled": (
        lycoris(DiagOFTModule, lora_dim=4, constraint=0.01, rescaled=True),
        (linear, convolution),
    ),
    "BOFT": (lycoris(ButterflyOFTModule, lora_dim=4), (linear, convolution)),
    "BOFT, rescaled": (lycoris(ButterflyOFTModule, lora_dim=4, rescaled=True), (linear, convolution)),
    "full difference": (lycoris(FullModule), (linear, bare_linear, convolution, grouped)),
    "norm": (lycoris(NormModule), (lambda: nn.LayerNorm(8), lambda: nn.GroupNorm(2, 8))),
    "PEFT LoRA": (from_peft(peft.LoraConfig, r=3, lora_alpha=5), (linear, convolution)),
    "PEFT LoRA, stabilised": (
        from_peft(peft.LoraConfig, r=3, lora_alpha=5, use_rslora=True),
        (linear, convolution),
    ),
    "PEFT LoRA, patterns": (
        from_peft(peft.LoraConfig, r=3, lora_alpha=5, rank_pattern={LAYER: 2}, alpha_pattern={LAYER: 7}),
        (linear, convolution),
    ),
    "PEFT LoRA with a bias": (
        from_peft(peft.LoraConfig, r=3, lora_alpha=5, lora_bias=True),
        (linear, convolution),
    ),
    "PEFT LoRA of an embedding": (
        from_peft(peft.LoraConfig, r=3, lora_alpha=5),
        (lambda: nn.Embedding(20, 8),),
    ),
    "PEFT DoRA": (from_peft(peft.LoraConfig, r=3, lora_alpha=5, use_dora=True), (linear, convolution)),
    "PEFT LoHa": (from_peft(peft.LoHaConfig, r=3, alpha=5), (linear, convolution)),
    "PEFT LoHa, effective": (
        from_peft(peft.LoHaConfig, r=3, alpha=5, use_effective_conv2d=True),
        (convolution,),
    ),
    "PEFT LoKr": (from_peft(peft.LoKrConfig, r=1, alpha=5), (linear, convolution)),
    "PEFT LoKr, whole": (from_peft(peft.LoKrConfig, r=9, alpha=5), (linear, convolution)),
    "PEFT (IA)3": (from_peft(peft.IA3Config, feedforward_modules=[]), (linear, bare_linear, convolution)),
    "PEFT (IA)3 by input": (
        from_peft(peft.IA3Config, feedforward_modules=[LAYER]),
        (linear, bare_linear, convolution),
    ),
}
CASES = {
    f"{name}-{place}": (make, layer)
    for name, (make, layers) in KINDS.items()
    for place, layer in enumerate(layers)
}


def example(case: str, folder: Path, seed: int = 0, layer: nn.Module | None = None) -> Example:
    """Make a network of one of `CASES`, on a new layer or on one that there is."""
    torch.manual_seed(seed)
    make, new = CASES[case]
    with torch.no_grad():
        return make(folder, layer if layer is not None else new())
