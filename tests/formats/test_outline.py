"""What a file is, from its header alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_pg.formats import NetworkError
from lib_pg.formats.family import UNKNOWN
from lib_pg.formats.outline import Outline, family_of_checkpoint, outline_network

ATTENTION = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def written(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "a.safetensors"
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize(
    ("parts", "outline"),
    [
        ({"lora_down.weight": (4, 768), "lora_up.weight": (8, 4)}, Outline("SD 1.x", frozenset({"LoRA"}))),
        ({"lora_A.weight": (4, 2048), "lora_B.weight": (8, 4)}, Outline("SDXL", frozenset({"LoRA"}))),
        (
            {"lora_down.weight": (4, 1024), "lora_up.weight": (8, 4), "dora_scale": (8, 1)},
            Outline("SD 2.x", frozenset({"LoRA", "DoRA"})),
        ),
        ({"diff": (8, 768)}, Outline("SD 1.x", frozenset({"full difference"}))),
        ({"oft_blocks": (2, 4, 4)}, Outline(UNKNOWN, frozenset({"OFT"}))),
        ({"weight": (8,), "on_input": ()}, Outline(UNKNOWN, frozenset({"(IA)3"}))),
        # Half of a layer is no layer, but says what was meant.
        ({"lora_down.weight": (4, 768)}, Outline(UNKNOWN, frozenset({"LoRA"}))),
        ({"other": (4, 768)}, Outline(UNKNOWN, frozenset())),
    ],
)
def test_kinds_and_family(tmp_path: Path, parts: dict[str, tuple[int, ...]], outline: Outline) -> None:
    tensors = {f"{ATTENTION}.{part}": torch.ones(shape) for part, shape in parts.items()}
    assert outline_network(written(tmp_path, tensors)) == outline


@pytest.mark.parametrize(
    ("layer", "family"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q", "SDXL"),
        ("lora_unet_middle_block_1_transformer_blocks_9_attn1_to_q", "SDXL"),
        ("lora_unet_up_blocks_0_attentions_2_transformer_blocks_3_attn1_to_q", "SDXL"),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_1_ff_net_2", "SDXL"),
        ("lora_unet_up_blocks_0_attentions_2_transformer_blocks_0_attn1_to_q", UNKNOWN),
        ("lora_unet_single_transformer_blocks_1_attn_to_q", "Flux"),
        ("lora_transformer_transformer_blocks_1_attn_to_q", UNKNOWN),
    ],
)
def test_several_blocks_to_an_attention_are_sdxl(tmp_path: Path, layer: str, family: str) -> None:
    tensors = {f"{layer}.lora_down.weight": torch.ones(4, 16), f"{layer}.lora_up.weight": torch.ones(8, 4)}
    assert outline_network(written(tmp_path, tensors)).family == family


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        ({"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (8, 768)}, "SD 1.x"),
        ({"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (8, 1024)}, "SD 2.x"),
        ({"input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (8, 2048)}, "SDXL"),
        ({"double_blocks.0.img_attn.qkv.weight": (8, 8)}, "Flux"),
        ({"joint_blocks.0.x_block.attn.qkv.weight": (8, 8)}, "SD3"),
        ({"conv_in.weight": (8, 4, 3, 3)}, UNKNOWN),
    ],
)
def test_families_of_checkpoints(tmp_path: Path, tensors: dict[str, tuple[int, ...]], family: str) -> None:
    named = {f"model.diffusion_model.{name}": torch.ones(shape) for name, shape in tensors.items()}
    assert family_of_checkpoint(written(tmp_path, named)) == family


@pytest.mark.parametrize("read", [outline_network, family_of_checkpoint])
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, read: object) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"<html>")
    assert callable(read)
    with pytest.raises(NetworkError, match="web page"):
        read(path)
