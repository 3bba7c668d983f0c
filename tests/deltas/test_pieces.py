"""Pieces of a tensor are all of it, and none of them is large; threads do all of it, each a part."""

from __future__ import annotations

import threading

import pytest
import torch

from lib_pg.deltas.kind import FactorError, finite
from lib_pg.deltas.pieces import pieces, spread

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


@pytest.mark.parametrize("count", [0, 1, LARGE, 2 * LARGE - 1, 2 * LARGE, 5 * LARGE + 3, 40 * LARGE])
def test_threads_do_each_value_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64 * torch.get_num_threads())
    done, parts, grad = torch.zeros(count), list[int](), list[bool]()
    before = threading.active_count()

    def work(first: int, last: int) -> None:
        done[first:last] += 1
        parts.append(last - first)
        grad.append(torch.is_grad_enabled())

    with torch.no_grad():
        spread(count, work)
    assert done.eq(1).all()
    assert len(parts) == max(1, min(4, count // LARGE)) and max(parts) - min(parts) <= 1
    assert not any(grad)
    assert threading.active_count() == before


def test_threads_are_in_the_mode_of_who_asks_and_raise_where_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2 * torch.get_num_threads())
    with torch.inference_mode():
        value = torch.zeros(2 * LARGE)
        spread(len(value), lambda first, last: value[first:last].add_(1))
    assert value.eq(1).all()

    def fail(first: int, last: int) -> None:
        raise ValueError(f"at {first}")

    with pytest.raises(ValueError, match="at 0"):
        spread(2 * LARGE, fail)


def test_where_torch_has_all_cores_one_thread_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", torch.get_num_threads)
    parts: list[tuple[int, int]] = []
    spread(8 * LARGE, lambda first, last: parts.append((first, last)))
    assert parts == [(0, 8 * LARGE)]
