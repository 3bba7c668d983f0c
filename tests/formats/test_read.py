"""Network files without a model: types, scales, kinds, names, families."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_pg.formats import NetworkError, read_network
from lib_pg.formats.keys import LayerKey, parse_key
from tests.networks import random_factors

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def lora(stem: str = "lora_unet_a", rank: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        f"{stem}.lora_down.weight": torch.full((rank, 6), 0.5, dtype=dtype),
        f"{stem}.lora_up.weight": torch.full((4, rank), 0.25, dtype=dtype),
    }


def peft(stem: str, rank: int = 4) -> dict[str, Tensor]:
    return {f"{stem}.lora_A.weight": torch.ones(rank, 6), f"{stem}.lora_B.weight": torch.ones(5, rank)}


def written(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "cat.safetensors"
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_files_type_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    network = read_network(written(tmp_path, lora(dtype=dtype)))
    delta = network.layers[LayerKey("unet", "a")]
    assert delta.down.dtype == delta.up.dtype == dtype
    assert torch.equal(delta.dense(), torch.full((4, 6), 0.25))
    assert network.nbytes == (2 * 6 + 4 * 2) * dtype.itemsize
    assert network.name == "cat"


def test_float64_becomes_float32_and_mixed_types_the_wider(tmp_path: Path) -> None:
    tensors = lora("lora_unet_a", dtype=torch.float64) | lora("lora_unet_b", dtype=torch.float16)
    tensors["lora_unet_b.lora_up.weight"] = tensors["lora_unet_b.lora_up.weight"].bfloat16()
    for delta in read_network(written(tmp_path, tensors)).layers.values():
        assert delta.down.dtype == delta.up.dtype == torch.float32


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, lora())
    network = read_network(path)
    with path.open("r+b") as file:
        file.seek(-80, 2)
        file.write(b"\xff" * 80)
    assert torch.equal(network.layers[LayerKey("unet", "a")].dense(), torch.full((4, 6), 0.25))


@pytest.mark.parametrize(
    ("alpha", "scale"),
    [
        (None, 1.0),
        (torch.tensor(1.0), 0.5),
        (torch.tensor([3.0]), 1.5),
        (torch.tensor(8), 4.0),
        (torch.tensor(1.0, dtype=torch.bfloat16), 0.5),
        (torch.tensor(0.0), 0.0),
        (torch.tensor(-2.0), -1.0),
    ],
)
def test_scale_is_alpha_over_rank(tmp_path: Path, alpha: Tensor | None, scale: float) -> None:
    tensors = lora() | ({} if alpha is None else {"lora_unet_a.alpha": alpha})
    assert read_network(written(tmp_path, tensors)).layers[LayerKey("unet", "a")].scale == scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_core_is_folded_in_the_files_type(tmp_path: Path, dtype: torch.dtype) -> None:
    factors = random_factors(
        torch.nn.Conv2d(3, 5, (3, 1)), rank=2, alpha=1.0, dtype=dtype, seed=0, tucker=True
    )
    names = {"lora_down": factors.down, "lora_up": factors.up, "lora_mid": factors.mid}
    tensors = {f"lora_unet_a.{name}.weight": value for name, value in names.items()}
    delta = read_network(written(tmp_path, tensors | {"lora_unet_a.alpha": torch.tensor(1.0)})).layers[
        "unet", "a"
    ]
    assert delta.down.dtype == delta.up.dtype == dtype
    assert delta.weight_shape == (5, 3, 3, 1)
    torch.testing.assert_close(
        delta.dense(), factors.dense(), rtol=1e-2, atol=1e-3 if dtype == torch.float16 else 1e-6
    )


def scales(folder: Path, stems: list[str], config: dict[str, object], **alphas: float) -> list[float]:
    tensors: dict[str, Tensor] = {f"{stem}.alpha": torch.tensor(value) for stem, value in alphas.items()}
    for stem in stems:
        tensors |= peft(stem)
    network = read_network(written(folder, tensors, {"lora_adapter_metadata": json.dumps(config)}))
    return [network.layers[parse_key(f"{stem}.alpha").layer].scale for stem in stems]


def test_alpha_of_adapter_metadata(tmp_path: Path) -> None:
    other = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    config = {"unet.lora_alpha": 8, "text_encoder.lora_alpha": 2.0, "unet.r": 4}
    assert scales(tmp_path, [LAYER, other], config) == [2.0, 0.5]
    assert scales(tmp_path, [LAYER], config | {"unet.use_rslora": True}) == [8 / math.sqrt(4)]
    assert scales(tmp_path, ["mid_block.a.to_q"], {"lora_alpha": 6, "r": 4}) == [1.5]
    assert scales(tmp_path, [other], {"unet.lora_alpha": 8}) == [1.0]


@pytest.mark.parametrize(
    ("pattern", "scale"),
    [
        ({"to_q": 12}, 3.0),
        ({"attn1.to_q": 12}, 3.0),
        ({"q": 12}, 2.0),
        ({"attn2.to_q": 12}, 2.0),
        ({"^to_q": 12}, 2.0),
        ({"^mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 12}, 3.0),
        ({"attn1\\.to_q$": 12}, 3.0),
        ({"to_q": 12, "attn1.to_q": 16}, 3.0),
        ({"attn1.to_q": 16, "to_q": 12}, 4.0),
    ],
)
def test_alpha_pattern_takes_the_first_that_ends_the_path(
    tmp_path: Path, pattern: object, scale: float
) -> None:
    assert scales(tmp_path, [LAYER], {"unet.lora_alpha": 8, "unet.alpha_pattern": pattern}) == [scale]


def test_alpha_pattern_of_a_text_encoder_with_and_without_root(tmp_path: Path) -> None:
    stem = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    for root in ("", "text_model.", "^", "^text_model."):
        pattern = {f"{root}encoder.layers.0.mlp.fc1": 8}
        assert scales(tmp_path, [stem], {"text_encoder.alpha_pattern": pattern}) == [2.0]


def test_an_alpha_tensor_wins_over_metadata(tmp_path: Path) -> None:
    assert scales(tmp_path, [LAYER], {"unet.lora_alpha": 8}, **{LAYER: 1.0}) == [0.25]


def test_unknown_names_are_counted(tmp_path: Path) -> None:
    network = read_network(
        written(tmp_path, lora() | {"foo.bar": torch.ones(1), "bundle_emb.x": torch.ones(1)})
    )
    assert Counter({kind: len(layers) for kind, layers in network.unsupported.items()}) == {
        "unrecognised": 1,
        "embedding": 1,
    }


@pytest.mark.parametrize(
    "keys",
    [
        ["first_stage_model.decoder.conv_in.weight", "model.diffusion_model.out.2.weight"],
        ["conv_in.weight", "conv_out.bias"],
        ["lora_unet_a.alpha"],
    ],
)
def test_a_file_without_networks_is_refused(tmp_path: Path, keys: list[str]) -> None:
    with pytest.raises(
        NetworkError, match=rf"holds {len(keys)} tensors? and no network among them \(names: {keys[0]}"
    ):
        read_network(written(tmp_path, {key: torch.ones(1) for key in keys}))


PARSED = {
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": (
        "unet",
        "mid_block_attentions_0_proj_in",
        "down",
    ),
    "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": ("te1", "encoder_layers_0_mlp_fc1", "alpha"),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": ("te1", "encoder_layers_0_mlp_fc1", "up"),
    "lora_te2_text_projection.lora_mid.weight": ("te2", "text_projection", "mid"),
    "unet.a.attn1.processor.to_out_lora.up.weight": ("unet", "a_attn1_to_out_0", "up"),
    "a.attn2.processor.to_k_lora.down.weight": ("unet", "a_attn2_to_k", "down"),
    "text_encoder.text_model.encoder.layers.1.self_attn.to_out_lora.down.weight": (
        "te1",
        "encoder_layers_1_self_attn_out_proj",
        "down",
    ),
    "text_encoder_2.text_model.encoder.layers.1.mlp.fc2.lora_linear_layer.up.weight": (
        "te2",
        "encoder_layers_1_mlp_fc2",
        "up",
    ),
    "unet.a.to_q.lora.alpha": ("unet", "a_to_q", "alpha"),
    "diffusion_model.input_blocks.1.0.in_layers.2.lora_A.weight": (
        "unet",
        "input_blocks_1_0_in_layers_2",
        "down",
    ),
    "unet.a.lora_B.bias": ("unet", "a", "lora_bias"),
    "unet.a.lora_magnitude_vector": ("unet", "a", "magnitude"),
    "lora_unet_a.weight": ("unet", "a", "ia3_weight"),
    "unet.a.weight": ("unet", "a_weight", "unrecognised"),
    "lycoris_text_model_encoder_layers_0_mlp_fc1.lokr_w1": ("te1", "encoder_layers_0_mlp_fc1", "lokr_w1"),
    "": ("unet", "", "unrecognised"),
    ".": ("unet", "_", "unrecognised"),
}


@pytest.mark.parametrize("key", PARSED)
def test_names_are_taken_apart(key: str) -> None:
    component, layer, part = PARSED[key]
    parsed = parse_key(key)
    assert (parsed.layer, parsed.part) == ((component, layer), part)


def narrow(stem: str, width: int) -> dict[str, Tensor]:
    return {f"{stem}.lora_down.weight": torch.ones(1, width), f"{stem}.lora_up.weight": torch.ones(3, 1)}


TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
FAMILIES = [
    (narrow(TO_K, 768), {}, "SD 1.x"),
    (narrow(TO_K, 1024), {}, "SD 2.x"),
    (narrow(TO_K, 2048), {}, "SDXL"),
    (narrow(TO_K, 32), {}, "unknown"),
    (narrow(TO_K, 32), {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "SDXL"),
    (narrow(TO_K, 768), {"ss_base_model_version": "sdxl_base_v1-0"}, "SD 1.x"),
    (narrow("lora_unet_conv_in", 4), {"ss_base_model_version": "sd_v1"}, "SD 1.x"),
    (narrow("lora_unet_label_emb_0_0", 2816), {}, "SDXL"),
    (narrow("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280), {}, "SDXL"),
    (narrow("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536), {}, "SD3"),
    (narrow("lora_unet_double_blocks_0_img_attn_qkv", 3072), {}, "Flux"),
    (narrow("transformer.single_transformer_blocks.0.attn.to_q", 3072), {}, "Flux"),
]


@pytest.mark.parametrize(("tensors", "metadata", "family"), FAMILIES)
def test_family_by_names_widths_and_statement(
    tmp_path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], family: str
) -> None:
    assert read_network(written(tmp_path, tensors, metadata)).family == family
