"""Low-rank deltas: LoRA on linear layers, LoCon on convolutions."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Additive
from lib_pg.deltas.kind import (
    FactorError,
    Headers,
    Kind,
    Numbers,
    Plan,
    Tensors,
    check_factor,
    check_rank,
    finite,
)
from lib_pg.deltas.shapes import misfit


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

    def fitted(self, shape: tuple[int, ...]) -> LowRank:
        if self.weight_shape == shape:
            return self
        down = self.down.flatten(1) if self.down.shape[2:] == (1, 1) else self.down
        if down.ndim == 2 and shape[2:] == (1, 1):
            down = down[:, :, None, None]
        if (self.up.shape[0], *down.shape[1:]) != shape:
            raise misfit(self.weight_shape, shape)
        return dataclasses.replace(self, down=down)

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
            thin = torch.mm(x.reshape(-1, x.shape[-1]), self.down.t())
            output.view(-1, output.shape[-1]).addmm_(thin, self.up.t(), alpha=factor * self.scale)

    def pair(self) -> tuple[Tensor, Tensor, float] | None:
        return (self.down, self.up, self.scale) if self.down.ndim == 2 else None

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


def with_files_core(low: LowRank, core: Tensor, names: str) -> LowRank:
    """Return `low.with_core(core)`; raises FactorError where that is not finite, as each of them is.

    Args:
        names: what core and down are called, for the message.
    """
    folded = low.with_core(core)
    finite(f"product of {names}", folded.down)
    return folded


def check_pair(headers: Headers, down: str = "down", up: str = "up", mid: str = "mid") -> Plan:
    """Check a pair of factors, and a Tucker core between them where there is one.

    Args:
        headers: the layer's tensors by part.
        down: part of (rank, in) or (rank, in, kernel height, kernel width).
        up: part of (out, rank) or (out, rank, 1, 1).
        mid: part of (rank, rank, kernel height, kernel width); the first factor has no kernel then.

    Raises:
        FactorError: one is missing, too large, of a wrong shape or of a wrong type.
    """
    for needed in (down, up):
        if needed not in headers:
            raise FactorError(f"has no {needed} factor")
    parts = [part for part in (down, up, mid) if part in headers]
    for part in parts:
        check_factor(part, headers[part], dimensions=(2, 4))
    first, second = headers[down].shape, headers[up].shape
    rank = first[0]
    check_rank(rank)
    if second[1] != rank or any(size != 1 for size in second[2:]):
        raise FactorError(
            f"{up} {second} does not fit {down} {first}, expected {up} (out, {rank}) or (out, {rank}, 1, 1)"
        )
    nbytes = sum(headers[part].nbytes for part in parts)
    if mid in headers:
        core = headers[mid].shape
        if len(core) != 4 or core[:2] != (rank, rank) or any(size != 1 for size in first[2:]):
            raise FactorError(
                f"{mid} {core} does not fit {down} {first}, "
                f"expected {mid} ({rank}, {rank}, kernel height, kernel width) "
                f"and {down} ({rank}, in) or ({rank}, in, 1, 1)"
            )
        nbytes += 4 * first[1] * math.prod(core[1:])

    def build(tensors: Tensors, numbers: Numbers) -> LowRank:
        low = LowRank(tensors[down], tensors[up].flatten(1), numbers.scale)
        return with_files_core(low, tensors[mid], f"{mid} and {down} factor") if mid in tensors else low

    return Plan(build, nbytes, scaled=True, rank=rank, inputs=first[1])


def _plan_embedding(headers: Headers) -> Plan:
    """Check PEFT's pair for an embedding, whose weight (tokens, width) lies the other way round."""
    for part in ("embedding_A", "embedding_B"):
        if part not in headers:
            raise FactorError(f"has no {part} factor")
        check_factor(part, headers[part], dimensions=(2,))
    (rank, _), (width, other) = headers["embedding_A"].shape, headers["embedding_B"].shape
    check_rank(rank)
    if rank != other:
        raise FactorError(f"embedding_B {(width, other)} does not fit, expected (width, {rank})")

    def build(tensors: Tensors, numbers: Numbers) -> LowRank:
        first, second = tensors["embedding_A"], tensors["embedding_B"]
        return LowRank(second.t().contiguous(), first.t().contiguous(), numbers.scale)

    return Plan(build, sum(header.nbytes for header in headers.values()), scaled=True, rank=rank)


LORA = Kind(
    "LoRA",
    {
        # PEFT's may have an adapter's name within, and no `weight` behind.
        "down": r"\.lora_down\.weight|\.lora_A(?:(?:\.[^.]+)?\.weight|\.default)?"
        r"|\.lora(?:_linear_layer)?\.down\.weight",
        "up": r"\.lora_up\.weight|\.lora_B(?:(?:\.[^.]+)?\.weight|\.default)?"
        r"|\.lora(?:_linear_layer)?\.up\.weight",
        "mid": r"\.lora_mid\.weight",
    },
    check_pair,
)
EMBEDDING_LORA = Kind(
    "LoRA",
    {f"embedding_{letter}": rf"\.lora_embedding_{letter}(?:\.[^.]+)?" for letter in "AB"},
    _plan_embedding,
)
