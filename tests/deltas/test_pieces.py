"""Pieces of a tensor are all of it, and none of them is large."""

from __future__ import annotations

import pytest
import torch

from lib_pg.deltas.kind import FactorError, finite
from lib_pg.deltas.pieces import pieces

LARGE = 1 << 18


@pytest.mark.parametrize(
    "shape", [(), (0,), (7,), (3 * LARGE + 1,), (999, 1001), (5, LARGE), (700, 90, 3, 3)]
)
def test_pieces_are_all_of_a_tensor_in_its_order(shape: tuple[int, ...]) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape)
    found = list(pieces(tensor))
    assert torch.equal(torch.cat(found) if tensor.ndim else found[0], tensor)
    assert all(len(piece) == 1 or piece.numel() <= LARGE for piece in found if piece.ndim)
    assert all(piece.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr() for piece in found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("at", [0, LARGE, -1])
def test_one_value_that_is_not_finite_is_found_in_whichever_piece(dtype: torch.dtype, at: int) -> None:
    tensor = torch.ones(2 * LARGE + 5, dtype=dtype)
    finite("up factor", tensor)
    tensor[at] = float("nan")
    with pytest.raises(FactorError, match="up factor holds values that are not finite"):
        finite("up factor", tensor)
