"""Weak weights on models that the host keeps in memory beside the one that it uses."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

from lib_pg.hosts.webui.base_checkpoint import base_of, forget_unused


def kept_on(model: nn.Module) -> Any:
    return getattr(model, "personalization_guidance_base", None)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Two loaded models, each compared with its base; the host uses the first."""
    loaded: list[nn.Module] = [nn.Linear(2, 2), nn.Linear(2, 2)]
    module = ModuleType("modules.sd_models")
    module.model_data = SimpleNamespace(loaded_sd_models=loaded)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.sd_models", module)
    for model in loaded:
        base_of(model, "key", lambda layer: {}, lambda own: SimpleNamespace(free=lambda: None))  # type: ignore[arg-type,return-value]
    return loaded


def test_a_model_that_is_put_aside_keeps_none(models: list[nn.Module]) -> None:
    own = kept_on(models[0])
    forget_unused(models[0], is_used=True)
    assert kept_on(models[0]) is own is not None and kept_on(models[1]) is None


def test_switched_off_none_is_kept(models: list[nn.Module]) -> None:
    forget_unused(models[0], is_used=False)
    assert kept_on(models[0]) is None and kept_on(models[1]) is None


def test_a_host_without_such_a_list_has_one_model(
    models: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["modules.sd_models"], "model_data")
    forget_unused(models[0], is_used=False)
    assert kept_on(models[0]) is None and kept_on(models[1]) is not None
