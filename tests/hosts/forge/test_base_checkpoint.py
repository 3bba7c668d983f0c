"""A full fine-tune in the Forge family, weakened towards a checkpoint of the host's list."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.hosts.forge.network_files import Network, host, lora
from tests.hosts.forge.sampling import assert_close, guided, hooks, plain
from tests.hosts.forge.stand_in import WIDTH, Engine, checkpoint
from tests.hosts.forge.test_networks import KINDS, POINT

OMEGA = 0.3
OPTIONS: dict[str, Any] = {"prompts": ("a dog", "a cat"), "pictures": 2}
hosts = pytest.mark.parametrize("kind", KINDS)


def parameters(engine: Engine) -> dict[str, Tensor]:
    parts = {"model.diffusion_model.": engine.unet, "cond_stage_model.transformer.layer.": engine.text_layer}
    return {prefix + name: value for prefix, part in parts.items() for name, value in part.named_parameters()}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """A base that every parameter of the loaded checkpoint differs from, in the host's list."""
    torch.manual_seed(4)
    tensors = {
        name: value.detach() + 0.2 * torch.randn_like(value) for name, value in parameters(Engine()).items()
    }
    save_file(tensors, tmp_path / "base.safetensors")
    listed = types.ModuleType("modules.sd_models")
    info = checkpoint(str(tmp_path / "base.safetensors"))
    listed.checkpoints_list = {info.title: info}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.sd_models", listed)
    return tensors


@hosts
@pytest.mark.parametrize("networks", [False, True])
@pytest.mark.parametrize("omega", [0.0, 0.3, 1.0])
def test_weak_rows_are_those_of_interpolated_weights(
    base: dict[str, Tensor], kind: Any, networks: bool, omega: float
) -> None:
    used = [(Network("dog", unet_multiplier=0.8), [lora(POINT, (WIDTH, WIDTH, 1, 1), 1)])] if networks else []
    settings = {"enabled": True, "weak_ratio": omega, "base_checkpoint": "base"}
    with host(used, kind) as engine:
        strong = plain(engine, **OPTIONS)
        before = {name: value.clone() for name, value in parameters(engine).items()}
        ours, p = guided(engine, settings, **OPTIONS)
        assert all(torch.equal(value, before[name]) for name, value in parameters(engine).items())
        assert hooks(engine) == 0
    assert p.comments == []
    with host([], kind) as engine:
        for name, value in parameters(engine).items():
            value.copy_(base[name] + omega * (before[name] - base[name]))
        engine.pristine = [
            {name: value.clone() for name, value in model.named_parameters()}
            for model in (engine.forge_objects.unet.model, engine.forge_objects.clip.patcher.model)
        ]
        low = plain(engine, **(OPTIONS | {"negative": ""}))
    for our, own, other in zip(ours, strong, low, strict=True):
        assert our.uncond is not None and other.uncond is not None
        assert_close(our.uncond, other.uncond)
        for mine, theirs in zip(our.cond, own.cond, strict=True):
            assert_close(mine, theirs)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
