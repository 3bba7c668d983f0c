"""A network of each kind on all layers of a pipeline, against explicitly interpolated weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_pg.hosts.diffusers import guided, installed, load_network, models_of
from tests.hosts.diffusers.unet_calls import calls_of, null_prompt_of, weak_forward
from tests.oracles import lycoris_network
from tests.pipelines import (
    NEGATIVE,
    Make,
    families,
    relative_error,
    same_bits,
    sample,
    sd_pipeline,
    settings,
    weights_of,
)

STRENGTH = 0.8
# Each with the size of its numbers that changes pictures clearly and does not turn them to noise.
KINDS: dict[str, tuple[Callable[..., nn.Module], dict[str, object]]] = {
    "LoHa": (LohaModule, {"lora_dim": 3, "alpha": 2}),
    "LoKr": (LokrModule, {"lora_dim": 2, "alpha": 1, "factor": 4}),
    "DoRA": (LoConModule, {"lora_dim": 3, "alpha": 1, "weight_decompose": True}),
    "GLoRA": (GLoRAModule, {"lora_dim": 2, "alpha": 1}),
    "(IA)3": (IA3Module, {}),
    "OFT": (DiagOFTModule, {"lora_dim": 4}),
    "BOFT": (ButterflyOFTModule, {"lora_dim": 2}),
    "full": (FullModule, {}),
}
PREFIXES = {"unet": "lora_unet_", "te1": "lora_te1_text_model_", "te2": "lora_te2_text_model_"}
kinds = pytest.mark.parametrize("kind", KINDS)

Changes = dict[tuple[str, str, str], Tensor]  # by component, layer and parameter


def network_file(path: Path, pipeline: Any, kind: str) -> Changes:
    """Write a network on all layers that a kind is for; return what LyCORIS adds to their parameters."""
    torch.manual_seed(3)
    module, options = KINDS[kind]
    tensors: dict[str, Tensor] = {}
    changes: Changes = {}
    for component, model in models_of(pipeline).items():
        for name, layer in model.named_modules():
            chosen = _module_for(module, layer)
            if chosen is None:
                continue
            with torch.no_grad():
                found, merged = lycoris_network(chosen, layer, **options)
            flat = name.removeprefix("text_model.").replace(".", "_")
            root = PREFIXES[component] if not flat.startswith("text_projection") else "lora_te2_"
            tensors |= {f"{root}{flat}.{part}": value for part, value in found.items()}
            for parameter, after in merged.items():
                before = layer._parameters[parameter]
                changes[component, name, parameter] = after - before.detach()
    save_file(tensors, path)
    return changes


def _module_for(kind: Callable[..., nn.Module], layer: nn.Module) -> Callable[..., nn.Module] | None:
    if isinstance(layer, (nn.GroupNorm, nn.LayerNorm)):
        return NormModule if kind is FullModule else None
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return None
    out = layer.weight.shape[0]
    halved = out & (out - 1) == 0  # as often as BOFT's stages need
    return kind if kind is not ButterflyOFTModule or (halved and out > 4) else None


@torch.no_grad()
def interpolated(make: Make, changes: Changes, strength: float) -> Any:
    """A pipeline with what a network adds written into its weights at `strength`."""
    pipeline = make()
    layers = {component: dict(model.named_modules()) for component, model in models_of(pipeline).items()}
    for (component, name, parameter), change in changes.items():
        layers[component][name]._parameters[parameter].add_(change * strength)
    return pipeline


@kinds
@families
def test_weak_rows_are_the_interpolated_model_s(tmp_path: Path, kind: str, make: Make) -> None:
    pipeline = make()
    changes = network_file(tmp_path / "dog.safetensors", pipeline, kind)
    said: list[str] = []
    network = load_network(pipeline, tmp_path / "dog.safetensors", STRENGTH, warn=said.append)
    assert not said
    assert network.parts.keys() == {component for component, _, _ in changes}
    before = weights_of(pipeline)
    with ExitStack() as stack:
        stack.enter_context(installed([network]))
        strong = interpolated(make, changes, STRENGTH)
        for ours, theirs in zip(weights_of(pipeline), weights_of(strong), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        run = guided(pipeline, [network], settings(schedule="Linear", weak_ratio=0.9, weak_ratio_end=0.1))
        stack.enter_context(run)
        calls = stack.enter_context(calls_of(pipeline))
        sample(pipeline, batch=3, negative_prompt=NEGATIVE, num_inference_steps=3)
    assert same_bits(weights_of(pipeline), before)
    for call, omega in zip(calls, (0.9, 0.5, 0.1), strict=True):
        weak = interpolated(make, changes, omega * STRENGTH)
        expected = weak_forward(weak, call, slice(0, 3), null_prompt_of(weak))
        assert relative_error(call.output[:3], expected) < 1e-5
        assert relative_error(call.output[3:], expected) > 1e-3


@kinds
def test_omega_one_is_cfg_bit_for_bit(tmp_path: Path, kind: str) -> None:
    pipeline = sd_pipeline()
    network_file(tmp_path / "dog.safetensors", pipeline, kind)
    network = load_network(pipeline, tmp_path / "dog.safetensors")
    with installed([network]):
        plain = sample(pipeline)
        with guided(pipeline, [network], settings(weak_ratio=1.0)) as run:
            ours = sample(pipeline, negative_prompt=NEGATIVE)
    assert run.ran
    assert torch.equal(ours, plain)


@kinds
def test_a_network_that_only_the_weak_branch_has(tmp_path: Path, kind: str) -> None:
    pipeline = sd_pipeline()
    changes = network_file(tmp_path / "bad.safetensors", pipeline, kind)
    network = load_network(pipeline, tmp_path / "bad.safetensors", 0.0, weak_strength=0.7)
    plain = sample(pipeline, num_inference_steps=1)
    controls = settings(weak_ratio=0.2)
    with installed([network]), guided(pipeline, [network], controls), calls_of(pipeline) as calls:
        ours = sample(pipeline, num_inference_steps=1)
    weak = interpolated(sd_pipeline, changes, 0.7)
    expected = weak_forward(weak, calls[0], slice(0, 1), null_prompt_of(weak))
    assert relative_error(calls[0].output[:1], expected) < 1e-5
    assert relative_error(ours, plain) > 0.01
