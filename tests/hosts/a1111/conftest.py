"""Fixtures of the stand-in's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.hosts.a1111.based import parameters
from tests.hosts.a1111.stand_in import host


@pytest.fixture
def base(tmp_path: Path) -> dict[str, Tensor]:
    """A base that every parameter of the loaded checkpoint differs from, and its file."""
    with host([]) as model:
        torch.manual_seed(4)
        tensors = {
            name: value.detach() + 0.3 * torch.randn_like(value) for name, value in parameters(model).items()
        }
    save_file(tensors, tmp_path / "base.safetensors")
    return tensors
