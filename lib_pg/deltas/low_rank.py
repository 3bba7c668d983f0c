"""Low-rank deltas: LoRA on linear layers, LoCon on convolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib_pg.deltas.base import Additive


@dataclass(frozen=True, eq=False)
class LowRank(Additive):
    """dW = scale * up @ down (Hu et al., LoRA, 2021, section 4.1).

    Attributes:
        down: (rank, in) for a linear layer; (rank, in, kernel height, kernel width) for a convolution.
        up: (out, rank), of the same dtype and on the same device.
        scale: alpha / rank.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0

    kind = "LoRA"

    def __post_init__(self) -> None:
        if self.up.ndim != 2 or self.down.ndim not in (2, 4) or self.up.shape[1] != self.down.shape[0]:
            raise ValueError(
                f"low-rank factors do not fit: up is {tuple(self.up.shape)}, "
                f"down is {tuple(self.down.shape)}; "
                "expected (out, rank) and (rank, in) or (rank, in, kernel height, kernel width)"
            )
        if self.up.dtype != self.down.dtype or self.up.device != self.down.device:
            raise ValueError(
                f"low-rank factors differ: up is {self.up.dtype} on {self.up.device}, "
                f"down is {self.down.dtype} on {self.down.device}; expected the same of both"
            )

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.up.shape[0], *self.down.shape[1:])

    @property
    def nbytes(self) -> int:
        return self.down.nbytes + self.up.nbytes

    @property
    def cost(self) -> int:
        return self.down.numel() + self.up.numel()

    def dense(self) -> Tensor:
        product = self.up.float() @ self.down.float().flatten(1)
        return (product * self.scale).view(self.weight_shape)

    def with_core(self, core: Tensor) -> LowRank:
        """Return dW = scale * up @ core @ down for a Tucker decomposition's core (rank, rank, height, width).

        `down` must be that of a convolution of one pixel: (rank, in, 1, 1).
        """
        folded = core.float().permute(0, 2, 3, 1) @ self.down.float().flatten(1)
        return LowRank(folded.permute(0, 3, 1, 2).to(self.down.dtype).contiguous(), self.up, self.scale)

    def is_on(self, device: torch.device, dtype: torch.dtype) -> bool:
        return self.down.device == device and self.down.dtype == dtype

    def to(self, device: torch.device, dtype: torch.dtype) -> LowRank:
        if self.is_on(device, dtype):
            return self
        return LowRank(self.down.to(device, dtype), self.up.to(device, dtype), self.scale)

    def add_to(self, output: Tensor, x: Tensor, module: nn.Module, factor: float) -> None:
        if isinstance(module, nn.Conv2d):
            self._add_to_conv(output, x, module, factor * self.scale)
        else:
            self._add_to_linear(output, x, factor * self.scale)

    def _add_to_linear(self, output: Tensor, x: Tensor, factor: float) -> None:
        thin = functional.linear(x, self.down)
        rows = output.view(-1, output.shape[-1])
        rows.addmm_(thin.view(-1, self.rank), self.up.t(), alpha=factor)

    def _add_to_conv(self, output: Tensor, x: Tensor, module: nn.Conv2d, factor: float) -> None:
        # The module's own method, for hosts that switch a live layer to circular padding (seamless tiles).
        thin = module._conv_forward(x, self.down, None)
        if output.is_contiguous():
            count, channels = output.shape[:2]
            pixels = output.view(count, channels, -1)
            pixels.baddbmm_(self.up.expand(count, -1, -1), thin.reshape(count, self.rank, -1), alpha=factor)
        else:  # channels last: the channels of a pixel lie side by side, as the features of a linear layer
            pixels = output.permute(0, 2, 3, 1).view(-1, output.shape[1])
            pixels.addmm_(thin.permute(0, 2, 3, 1).reshape(-1, self.rank), self.up.t(), alpha=factor)
