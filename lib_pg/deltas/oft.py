"""OFT and BOFT: outputs rotated in small blocks (Qiu et al., 2023; Liu et al., 2024; LyCORIS, kohya)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_pg.deltas.base import Delta, Parameters, Transform, Transforming
from lib_pg.deltas.kind import (
    FactorError,
    Headers,
    Kind,
    Numbers,
    Plan,
    Tensors,
    check_type,
    check_vector,
    finite,
)
from lib_pg.deltas.last import Last
from lib_pg.deltas.limits import FEATURES_MAX, RANK_MAX
from lib_pg.deltas.shapes import misfit, over_features

# Undoing loses no more than this factor of precision.
_CONDITION_MAX = 20.0


@dataclass(frozen=True, eq=False)
class _Turned(Delta):
    """C = m (S R W - W), R of small rotations, S a learned length for every output.

    Attributes:
        rotations: (.., blocks, size, size), which multiply a block of W from the left.
        rescale: (out,); None for 1.
    """

    rotations: Tensor
    rescale: Tensor | None = None

    @property
    def nbytes(self) -> int:
        return self.rotations.nbytes + (0 if self.rescale is None else self.rescale.nbytes)

    def fitted(self, shape: tuple[int, ...]) -> _Turned:
        out = self.rotations.shape[-3] * self.rotations.shape[-1]
        if len(shape) < 2 or out != shape[0]:
            raise misfit((out,), shape)
        return self


@dataclass(frozen=True, eq=False)
class Oft(_Turned, Transforming):
    """R has its blocks, (blocks, size, size), along the diagonal."""

    kind = "OFT"

    @property
    def cost(self) -> int:
        return self.rotations.numel()

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        weight = parameters["weight"]
        assert weight is not None
        blocks, size, _ = self.rotations.shape
        turned = torch.bmm(self._turns().to(weight.device), weight.reshape(blocks, size, -1))
        return {"weight": (turned.view(weight.shape) - weight) * strength}

    def transform(self, module: nn.Module, parameters: Parameters, strength: float) -> Transform | None:
        change = self._turns() - torch.eye(self.rotations.shape[1], device=self.rotations.device)
        if torch.linalg.cond(_at(change, strength)).max() > _CONDITION_MAX:
            return None
        return _OftTransform(change)

    def _turns(self) -> Tensor:
        """Return S R, (blocks, size, size)."""
        blocks, size, _ = self.rotations.shape
        turns = self.rotations.float()
        return turns if self.rescale is None else self.rescale.float().view(blocks, size, 1) * turns


def _at(change: Tensor, strength: float) -> Tensor:
    return torch.eye(change.shape[-1], device=change.device) + strength * change


class _OftTransform(Transform):
    """W_j = M_j W with M_j = 1 + j (S R - 1), so W_k = M_k M_m^-1 W_m: small products on the outputs."""

    def __init__(self, change: Tensor) -> None:
        self._change = change
        self._known: Last[Tensor] = Last()

    def finish(self, output: Tensor, x: Tensor, module: nn.Module, strong: float, weak: float) -> None:
        turn = self._known.of(self._turn, strong, weak, output.dtype)
        blocks, size, _ = turn.shape
        bias = module._parameters.get("bias")
        if bias is not None:
            output.sub_(over_features(bias, module))
        if isinstance(module, nn.Conv2d):
            parts = output.reshape(len(output), blocks, size, -1)
            turned = torch.einsum("kij,bkjp->bkip", turn, parts)
        else:
            turned = torch.einsum("kij,bkj->bki", turn, output.reshape(-1, blocks, size))
        output.copy_(turned.reshape(output.shape))
        if bias is not None:
            output.add_(over_features(bias, module))

    def to(self, device: torch.device, dtype: torch.dtype) -> _OftTransform:
        return _OftTransform(self._change.to(device))

    def _turn(self, strong: float, weak: float, dtype: torch.dtype) -> Tensor:
        turn: Tensor = torch.linalg.solve(_at(self._change, strong), _at(self._change, weak), left=False)
        return turn.to(dtype)


@dataclass(frozen=True, eq=False)
class Boft(_Turned):
    """R = R_n .. R_1, (stages, blocks, size, size): each stage mixes outputs further apart (a butterfly)."""

    kind = "BOFT"

    def contribution(self, parameters: Parameters, strength: float) -> dict[str, Tensor]:
        weight = parameters["weight"]
        assert weight is not None
        rows = weight.flatten(1)
        for stage, rotations in enumerate(self.rotations.float().to(weight.device)):
            blocks, size, _ = rotations.shape
            apart = 2**stage * (size // 2)
            # (c, 2, apart) -> (c, apart, 2): the outputs that a stage mixes lie side by side.
            mixed = rows.view(-1, 2, apart, rows.shape[1]).transpose(1, 2).reshape(blocks, size, -1)
            mixed = torch.bmm(rotations, mixed)
            rows = mixed.view(-1, apart, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
        if self.rescale is not None:
            rows = self.rescale.float().to(weight.device)[:, None] * rows
        return {"weight": (rows.view(weight.shape) - weight) * strength}


def _check(headers: Headers) -> Plan:
    part = "oft_blocks" if "oft_blocks" in headers else "oft_diag"
    if len({"oft_blocks", "oft_diag"} & headers.keys()) != 1:
        raise FactorError("has oft_blocks and oft_diag or neither of them, expected one")
    header = headers[part]
    check_type(part, header)
    shape = header.shape
    if len(shape) not in ((3, 4) if part == "oft_blocks" else (3,)) or shape[-1] != shape[-2] or 0 in shape:
        raise FactorError(f"its {part} have shape {shape}, expected (blocks, size, size) or stages of them")
    stages = shape[0] if len(shape) == 4 else 1
    out = shape[-3] * shape[-1]
    if out > FEATURES_MAX or shape[-1] > RANK_MAX:
        raise FactorError(f"its {part} have shape {shape}, expected at most {FEATURES_MAX} outputs")
    if len(shape) == 4 and (stages > 16 or shape[-1] % 2 or out % (2**stages * (shape[-1] // 2))):
        raise FactorError(f"its {stages} stages do not divide {out} outputs in blocks of {shape[-1]}")
    if "rescale" in headers and check_vector("rescale", headers["rescale"]) != out:
        raise FactorError(f"its rescale has shape {headers['rescale'].shape}, expected {out} lengths")
    return Plan(_build, 4 * math.prod(shape) + out * 4)


def _build(tensors: Tensors, numbers: Numbers) -> Oft | Boft:
    rescale = tensors["rescale"].flatten() if "rescale" in tensors else None
    if "oft_diag" in tensors:  # of LyCORIS's first version: rotations already
        return Oft(tensors["oft_diag"].transpose(-1, -2).contiguous(), rescale)
    blocks = tensors["oft_blocks"].float()
    out = blocks.shape[-3] * blocks.shape[-1]
    rotations = _cayley(blocks, (numbers.alpha or 0.0) * out)
    if blocks.ndim == 4:
        return Boft(rotations, rescale)
    return Oft(rotations.transpose(-1, -2).contiguous(), rescale)


def _cayley(blocks: Tensor, constraint: float) -> Tensor:
    """Return (1 + Q)(1 - Q)^-1 of Q = blocks - blocks^T, whose norm `constraint` bounds where it is not 0."""
    skew = blocks - blocks.transpose(-1, -2)
    norm = torch.linalg.vector_norm(skew) + 1e-8
    if 0 < constraint < norm:
        skew = skew * (constraint / norm)
    one = torch.eye(blocks.shape[-1])
    try:  # with a huge Q the ones are lost, and what is left may have no inverse
        rotations: Tensor = torch.linalg.solve(one - skew, one + skew, left=False)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch does not list it
        raise FactorError("its oft_blocks make no rotations, expected smaller numbers") from error
    return finite("rotations of oft_blocks", rotations)


OFT = Kind(
    "OFT",
    {"oft_blocks": r"\.oft_blocks", "oft_diag": r"\.oft_diag", "rescale": r"\.rescale"},
    _check,
)
