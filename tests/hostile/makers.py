"""Good files to start from: networks of every kind on layers of a small pipeline, and its base checkpoint."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from tests.checkpoints import moved, single_file_of
from tests.hostile.mutations import Draft, draft_of
from tests.oracles import CASES, LAYER, example
from tests.pipelines import sd_pipeline

# Sizes that every kind can divide.
_SIZES = (16, 32)


class Makers:
    """What is made once, and taken again for every run."""

    def __init__(self) -> None:
        self.pipeline = sd_pipeline()
        self.network = cache(self._network)
        self.checkpoint = cache(self._checkpoint)
        layers = {case: new() for case, (_, new) in CASES.items()}
        self.cases = [case for case, layer in layers.items() if self._places(layer)]
        self._layers = layers

    def _network(self, case: str) -> Draft:
        """Return a file of this kind for two layers of the U-Net, or one of the text encoder."""
        tensors: dict[str, Tensor] = {}
        metadata: dict[str, str] = {}
        for path, layer in self._places(self._layers[case])[:2]:
            with tempfile.TemporaryDirectory() as folder:
                made = example(case, Path(folder), layer=layer).path
                file = made / "adapter_model.safetensors" if made.is_dir() else made
                found = draft_of(file.read_bytes())
                with safe_open(str(file), "pt") as handle:
                    metadata |= handle.metadata() or {}
                if made.is_dir():
                    metadata["lora_adapter_metadata"] = (made / "adapter_config.json").read_text("utf-8")
            tensors |= {_on(key, path, layer): value for key, value in found.tensors.items()}
        return Draft(tensors, metadata)

    def _places(self, like: nn.Module) -> list[tuple[str, nn.Module]]:
        if isinstance(like, nn.Embedding):
            return [("embeddings.token_embedding", self.pipeline.text_encoder.embeddings.token_embedding)]
        return [
            (path, layer)
            for path, layer in self.pipeline.unet.named_modules()
            if type(layer) is type(like) and _is_alike(layer, like)
        ]

    def _checkpoint(self) -> Draft:
        """Return a single file of what the pipeline might have been trained from."""
        with tempfile.TemporaryDirectory() as folder:
            path = single_file_of(moved(sd_pipeline()), Path(folder) / "base.safetensors")
            return draft_of(path.read_bytes())


def _is_alike(layer: Any, like: Any) -> bool:
    if (layer.bias is None) != (like.bias is None) or layer.weight.shape[0] not in _SIZES:
        return False
    if isinstance(like, nn.Conv2d):
        return bool((layer.kernel_size, layer.stride) == (like.kernel_size, like.stride) and like.groups == 1)
    return True


def _on(key: str, path: str, layer: nn.Module) -> str:
    if isinstance(layer, nn.Embedding):
        return key.replace(f"base_model.model.{LAYER}", f"text_encoder.text_model.{path}")
    return key.replace(LAYER, path.replace(".", "_"))


@torch.no_grad()
def latents(pipeline: Any) -> Tensor:
    """Sample two steps; the rows' noise is always the same."""
    generator = torch.Generator().manual_seed(5)
    call = {"num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "latent"}
    found: Tensor = pipeline(prompt="a sks dog", negative_prompt="ugly", generator=generator, **call).images
    return found
