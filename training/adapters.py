"""LoRA and LoKr adapters in plain torch: attach, save in the kohya and LyCORIS layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torch.utils.hooks import RemovableHandle

_UNET_PARTS = (".attentions.", ".resnets.")
_UNET_SKIPPED = ("time_emb_proj", "conv_shortcut")
_TEXT_PARTS = (".self_attn.", ".mlp.")
Layer = nn.Linear | nn.Conv2d


def adapted_layers(unet: nn.Module, text_encoder: nn.Module) -> Iterator[tuple[str, Layer]]:
    """The layers an adapter touches, each with its kohya name.

    U-Net: attention, feed-forward and the residual blocks' convolutions. Text encoder: attention and MLP.
    """
    for path, layer in unet.named_modules():
        wanted = any(part in f".{path}" for part in _UNET_PARTS) and not path.endswith(_UNET_SKIPPED)
        if wanted and isinstance(layer, nn.Linear | nn.Conv2d):
            yield "lora_unet_" + path.replace(".", "_"), layer
    for path, layer in text_encoder.named_modules():
        if any(part in path for part in _TEXT_PARTS) and isinstance(layer, nn.Linear):
            # transformers 5 dropped the text_model level that the files' names keep.
            path = path.removeprefix("text_model.")
            yield "lora_te_text_model_" + path.replace(".", "_"), layer


class LoRA(nn.Module):
    """What a low-rank adapter adds to one layer's output: alpha / rank * up(down(x))."""

    def __init__(self, layer: Layer, rank: int, alpha: float) -> None:
        super().__init__()
        if isinstance(layer, nn.Conv2d):
            # LoCon: the first factor has the layer's own kernel, the second is 1x1.
            self.down: nn.Module = nn.Conv2d(
                layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False
            )
            self.up: nn.Module = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.up.weight)
        self.alpha = alpha
        self.scale = alpha / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The addition to the layer's output for the layer's input x."""
        return self.scale * self.up(self.down(x))

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the file keeps, by the ends of the keys."""
        return {
            "lora_down.weight": self.down.weight,
            "lora_up.weight": self.up.weight,
            "alpha": torch.tensor(self.alpha),
        }


class LoKr(nn.Module):
    """What a Kronecker product of a small and a large matrix adds to one layer's output."""

    def __init__(self, layer: Layer, size: int) -> None:
        """Make one whose small matrix is at most `size` x `size`; it adds nothing yet."""
        super().__init__()
        self._conv = (layer.stride, layer.padding) if isinstance(layer, nn.Conv2d) else None
        out, inputs, *kernel = layer.weight.shape
        rows, columns = math.gcd(out, size), math.gcd(inputs, size)
        self.small = nn.Parameter(torch.empty(rows, columns))
        self.large = nn.Parameter(torch.zeros(out // rows, inputs // columns, *kernel))
        nn.init.kaiming_uniform_(self.small, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The addition to the layer's output for the layer's input x."""
        small = self.small.view(*self.small.shape, *[1] * (self.large.ndim - 2))
        weight = torch.kron(small, self.large)
        return F.linear(x, weight) if self._conv is None else F.conv2d(x, weight, None, *self._conv)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the file keeps, by the ends of the keys; without factors alpha is 1 for nothing to scale."""
        return {"lokr_w1": self.small, "lokr_w2": self.large, "alpha": torch.tensor(1.0)}


Adapter = LoRA | LoKr


def attach(
    unet: nn.Module, text_encoder: nn.Module, make: Callable[[Layer], Adapter]
) -> tuple[dict[str, Adapter], list[RemovableHandle]]:
    """Add an untrained adapter to every adapted layer by forward hooks.

    Returns:
        The adapters by kohya name, and the hooks' handles.
    """
    adapters: dict[str, Adapter] = {}
    handles = []
    for name, layer in adapted_layers(unet, text_encoder):
        adapter = adapters[name] = make(layer).to(layer.weight.device)

        def add(_: nn.Module, given: tuple, output: torch.Tensor, own: Adapter = adapter) -> torch.Tensor:
            return output + own(given[0])

        handles.append(layer.register_forward_hook(add))
    return adapters, handles


def save_adapters(path: Path, adapters: dict[str, Adapter], metadata: dict[str, str]) -> None:
    """Write adapters in half precision with the trainers' key names."""
    tensors = {
        f"{name}.{end}": tensor.detach().cpu().half().contiguous()
        for name, adapter in adapters.items()
        for end, tensor in adapter.tensors().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata)
