"""Models that something else has wrapped: PEFT's adapters, torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.utils import is_peft_available
from torch import Tensor, nn

from lib_pg.hosts.diffusers import guided, installed, load_base_checkpoint, load_network, models_of
from tests.networks import random_kohya_file, random_peft_file
from tests.pipelines import (
    Make,
    families,
    hooks_of,
    relative_error,
    same_bits,
    sample,
    sd_pipeline,
    settings,
    weights_of,
)

needs_peft = pytest.mark.skipif(not is_peft_available(), reason="PEFT is not installed")


def network_file(folder: Path, pipeline: Any) -> Path:
    path = folder / "dog.safetensors"
    models = models_of(pipeline)
    prefix = "lora_te1_" if "te2" in models else "lora_te_"
    random_kohya_file(path, **models, te1_prefix=prefix, alpha=0.5)
    return path


def adapter_file(folder: Path, pipeline: Any) -> Path:
    path = folder / "lcm.safetensors"
    random_peft_file(
        path, pipeline.unet, pipeline.text_encoder, only=lambda name: name.endswith(("to_q", "q_proj"))
    )
    return path


def guided_latents(pipeline: Any, network: Any, said: Callable[[str], None] = lambda _: None) -> Tensor:
    with installed([network]), guided(pipeline, [network], settings(weak_ratio=0.2), said):
        return sample(pipeline, num_inference_steps=2)


@needs_peft
@families
def test_a_layer_with_an_adapter_is_the_layer_within(tmp_path: Path, make: Make) -> None:
    """As if the adapter had been in the weights: in both branches, at its full strength."""
    wrapped, fused = make(), make()
    path, adapter = network_file(tmp_path, wrapped), adapter_file(tmp_path, wrapped)
    for pipeline in (wrapped, fused):
        pipeline.load_lora_weights(str(adapter), adapter_name="lcm")
    fused.fuse_lora()
    fused.unload_lora_weights()
    network = load_network(wrapped, path)
    expected = load_network(fused, path)
    counts = [{name: len(part.deltas) for name, part in each.parts.items()} for each in (network, expected)]
    assert counts[0] == counts[1]
    said: list[str] = []
    ours = guided_latents(wrapped, network, said.append)
    assert relative_error(ours, guided_latents(fused, expected)) < 1e-4
    assert relative_error(ours, sample(wrapped, num_inference_steps=2)) > 1e-2
    assert sum("loaded itself" in each and "(lcm)" in each for each in said) == 1


@needs_peft
def test_adapters_that_are_off_are_not_spoken_of(tmp_path: Path) -> None:
    pipeline = sd_pipeline()
    pipeline.load_lora_weights(str(adapter_file(tmp_path, pipeline)), adapter_name="lcm")
    pipeline.disable_lora()
    said: list[str] = []
    with guided(pipeline, [], settings(), said.append):
        pass
    assert not [each for each in said if "lcm" in each]


@needs_peft
def test_a_base_checkpoint_is_compared_with_the_layers_within(tmp_path: Path) -> None:
    pipeline = sd_pipeline()
    for part in ("unet", "text_encoder"):
        getattr(pipeline, part).save_pretrained(tmp_path / part)
    with torch.no_grad():
        pipeline.unet.mid_block.resnets[0].conv1.weight.add_(0.1)
    pipeline.load_lora_weights(str(adapter_file(tmp_path, pipeline)), adapter_name="lcm")
    base = load_base_checkpoint(pipeline, tmp_path)
    assert len(base.network.parts["unet"].deltas) == 1


def whole(pipeline: Any) -> None:
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")


def in_place(pipeline: Any) -> None:
    pipeline.unet.compile(backend="eager")


def a_part(pipeline: Any) -> None:
    pipeline.unet.mid_block = torch.compile(pipeline.unet.mid_block, backend="eager")


def text_encoder(pipeline: Any) -> None:
    pipeline.text_encoder = torch.compile(pipeline.text_encoder, backend="eager")


@pytest.mark.parametrize("compiled", [whole, in_place, a_part, text_encoder])
def test_a_compiled_model_is_guided_as_one_that_is_not(
    tmp_path: Path, compiled: Callable[[Any], None]
) -> None:
    """Even where its code was made before: that would run without our hooks."""
    plain, pipeline = sd_pipeline(), sd_pipeline()
    path = network_file(tmp_path, plain)
    expected = guided_latents(plain, load_network(plain, path))
    before = weights_of(pipeline)
    compiled(pipeline)
    first = sample(pipeline, num_inference_steps=2)
    network = load_network(pipeline, path)
    codes = compiled_code(pipeline)
    said: list[str] = []
    ours = guided_latents(pipeline, network, said.append)
    assert relative_error(ours, expected) < 1e-5
    assert sum("runs uncompiled" in each for each in said) == 1
    assert compiled_code(pipeline) == codes
    assert codes
    assert hooks_of(pipeline) == hooks_of(plain)
    assert same_bits(weights_of(pipeline), before)
    assert torch.equal(sample(pipeline, num_inference_steps=2), first)


def compiled_code(pipeline: Any) -> list[Any]:
    """Return what torch.compile has left on all modules."""
    models: list[nn.Module] = [pipeline.unet, pipeline.text_encoder]
    modules = [module for model in models for module in model.modules()]
    return [
        vars(module).get("forward") or vars(module).get("_compiled_call_impl")
        for module in modules
        if "_orig_mod" in module._modules or vars(module).get("_compiled_call_impl")
    ]
