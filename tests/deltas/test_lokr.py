"""A Kronecker product whose second factor is a product itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lib_pg.deltas import LowRank
from lib_pg.deltas.lokr import LoKr
from tests.pipelines import relative_error


@pytest.mark.parametrize(
    ("module", "x"),
    [(nn.Linear(16, 12), torch.randn(4, 16)), (nn.Conv2d(16, 12, 3), torch.randn(2, 16, 5, 5))],
    ids=["linear", "3x3"],
)
def test_what_is_added_knows_the_factors_own_scale(module: nn.Module, x: torch.Tensor) -> None:
    kernel = module.weight.shape[2:]
    delta = LoKr(torch.randn(2, 2), LowRank(torch.randn(3, 8, *kernel), torch.randn(6, 3), scale=0.3), 0.5)
    with torch.no_grad():
        before = module(x)
        found = before.clone()
        delta.add_to(found, x, module, 0.7)
        module.weight.add_(0.7 * delta.dense())
        assert relative_error(found - before, module(x) - before) < 1e-5
