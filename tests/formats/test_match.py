"""Network files on live models: each layer gets its own product, under every naming; misfits are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from lib_pg.formats import NetworkError, match, read_network
from tests.networks import adapted_layers, random_kohya_file, random_peft_file, tiny_text_encoder, tiny_unet


def assert_deltas(found: dict[str, dict[nn.Module, object]], expected: dict[nn.Module, torch.Tensor]) -> None:
    flat = {module: delta for layers in found.values() for module, delta in layers.items()}
    assert flat.keys() == expected.keys()
    assert expected
    for module, dense in expected.items():
        assert flat[module].weight_shape == tuple(module.weight.shape)
        torch.testing.assert_close(
            flat[module].dense(), dense.reshape(module.weight.shape), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_original_names_at_other_depths(tmp_path: Path, layers: int) -> None:
    unet = tiny_unet(xl=True, layers_per_block=layers)
    expected = random_kohya_file(tmp_path / "cat.safetensors", unet, ldm=True)
    assert len(expected) == len(adapted_layers(unet))
    assert_deltas(match(read_network(tmp_path / "cat.safetensors"), {"unet": unet}).deltas, expected)


@pytest.mark.parametrize("ldm", [False, True], ids=["diffusers", "original"])
@pytest.mark.parametrize("xl", [False, True], ids=["SD", "SDXL"])
@pytest.mark.parametrize("tucker", [False, True], ids=["plain", "tucker"])
def test_kohya_layers_get_their_own_product(tmp_path: Path, ldm: bool, xl: bool, tucker: bool) -> None:
    models = {"unet": tiny_unet(xl), "te1": tiny_text_encoder()}
    if xl:
        models["te2"] = tiny_text_encoder(projection=True)
    prefix = "lora_te1_" if xl else "lora_te_"
    path = tmp_path / "cat.safetensors"
    expected = random_kohya_file(path, **models, rank=3, ldm=ldm, tucker=tucker, te1_prefix=prefix)
    found = match(read_network(path), models)
    assert not found.unmatched
    assert_deltas(found.deltas, expected)


@pytest.mark.parametrize("style", ["peft", "diffusers"])
def test_dotted_layers_get_their_own_product(tmp_path: Path, style: str) -> None:
    models = {
        "unet": tiny_unet(xl=True),
        "te1": tiny_text_encoder(),
        "te2": tiny_text_encoder(projection=True),
    }
    path = tmp_path / "cat.safetensors"
    expected = random_peft_file(path, **models, style=style)
    assert_deltas(match(read_network(path), models).deltas, expected)


@pytest.mark.parametrize(
    "prefix",
    [
        lambda component: "",
        lambda component: "base_model.model.",
        lambda component: (
            "base_model.model.unet." if component == "unet" else "base_model.model.text_encoder."
        ),
        lambda component: (
            "unet.base_model.model." if component == "unet" else "text_encoder.base_model.model."
        ),
    ],
    ids=["none", "peft", "peft outside", "peft inside"],
)
def test_prefixes_of_dotted_names(tmp_path: Path, prefix: object) -> None:
    models = {"unet": tiny_unet(), "te1": tiny_text_encoder()}
    path = tmp_path / "cat.safetensors"
    expected = random_peft_file(path, **models, prefix=prefix)
    assert_deltas(match(read_network(path), models).deltas, expected)


def test_adapter_name_in_keys(tmp_path: Path) -> None:
    unet, path = tiny_unet(), tmp_path / "cat.safetensors"
    expected = random_peft_file(path, unet)
    renamed = {key.replace(".weight", ".default.weight"): value for key, value in load_file(path).items()}
    save_file(renamed, path)
    assert_deltas(match(read_network(path), {"unet": unet}).deltas, expected)


@pytest.mark.parametrize("prefixed", [True, False])
def test_old_attention_processors(tmp_path: Path, prefixed: bool) -> None:
    models = {"unet": tiny_unet(), "te1": tiny_text_encoder()}
    attention = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
    kwargs = {} if prefixed else {"prefix": lambda component: ""}
    path = tmp_path / "cat.safetensors"
    expected = random_peft_file(
        path, **models, style="old", only=lambda name: name.endswith(attention), **kwargs
    )
    assert_deltas(match(read_network(path), models).deltas, expected)


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("rooted", [False, True])
def test_text_encoders_of_old_and_new_transformers(tmp_path: Path, projection: bool, rooted: bool) -> None:
    inner = tiny_text_encoder(projection)
    inner = getattr(inner, "text_model", inner)
    model = nn.Module()
    model.add_module("text_model" if rooted else "encoder", inner if rooted else inner.encoder)
    path = tmp_path / "cat.safetensors"
    expected = random_kohya_file(path, te1=model)
    assert all(name.startswith("lora_te_text_model_") for name in load_file(path))
    assert_deltas(match(read_network(path), {"te1": model}).deltas, expected)


def test_linear_and_convolution_forms_are_exchangeable(tmp_path: Path) -> None:
    unet, path = tiny_unet(), tmp_path / "cat.safetensors"
    expected = random_kohya_file(path, unet, only=lambda name: name.endswith(("proj_in", "attn1.to_q")))
    forms = {(module.weight.ndim) for module in expected}
    assert forms == {2, 4}
    swapped = {
        key: value
        if key.endswith("alpha")
        else (value[:, :, None, None] if value.ndim == 2 else value.flatten(1))
        for key, value in load_file(path).items()
    }
    save_file({key: value.contiguous() for key, value in swapped.items()}, path)
    assert_deltas(match(read_network(path), {"unet": unet}).deltas, expected)


def test_misfits_are_named_with_their_reason(tmp_path: Path) -> None:
    unet, path = tiny_unet(), tmp_path / "cat.safetensors"
    layers = {
        "conv_in": (8, 4, 3, 3),
        "conv_out": (4, 8, 1, 1),
        "mid_block_resnets_0_norm1": (16, 16),
        "nowhere": (4, 4),
        "mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (16, 99),
    }
    tensors = {}
    for name, (out, *rest) in layers.items():
        tensors[f"lora_unet_{name}.lora_up.weight"] = torch.ones(out, 2)
        tensors[f"lora_unet_{name}.lora_down.weight"] = torch.ones(2, *rest)
    tensors["lora_te2_text_projection.lora_up.weight"] = torch.ones(4, 2)
    tensors["lora_te2_text_projection.lora_down.weight"] = torch.ones(2, 4)
    save_file(tensors, path)
    found = match(read_network(path), {"unet": unet})
    assert list(found.deltas["unet"]) == [unet.conv_in]
    assert len(found.unmatched) == 5
    reasons = "\n".join(sorted(found.unmatched))
    assert "conv_out (its shape is (4, 8, 1, 1), the model's layer has (4, 8, 3, 3))" in reasons
    assert "norm1 (its shape is (16, 16), the model's layer has (16,))" in reasons
    assert "nowhere (the model has no such layer)" in reasons
    assert "attn2_to_k (its shape is (16, 99), the model's layer has (16, 32))" in reasons
    assert "te2 text_projection (the model has no second text encoder)" in reasons
    assert found.summary().startswith("cat: 1 layer matched (1 in the U-Net); 5 layers left out: ")
    assert found.summary().endswith(" and 2 more.")


def test_a_convolution_of_other_groups_is_left_out(tmp_path: Path) -> None:
    unet, path = tiny_unet(), tmp_path / "cat.safetensors"
    random_kohya_file(path, unet, only=lambda name: name in ("conv_in", "conv_out"))
    unet.conv_in = nn.Conv2d(4, 8, 3, groups=4)
    found = match(read_network(path), {"unet": unet})
    assert list(found.deltas["unet"]) == [unet.conv_out]
    assert found.unmatched == (
        "unet conv_in (its shape is (8, 4, 3, 3), the model's layer has (8, 1, 3, 3))",
    )


def test_one_layer_under_two_names_is_refused(tmp_path: Path) -> None:
    unet, path = tiny_unet(), tmp_path / "cat.safetensors"
    random_kohya_file(path, unet, only=lambda name: name == "conv_in")
    tensors = load_file(path)
    again = {key.replace("conv_in", "input_blocks_0_0"): value.clone() for key, value in tensors.items()}
    save_file(tensors | again, path)
    with pytest.raises(NetworkError, match=r"two names for one layer, unet (conv_in|input_blocks_0_0) and"):
        match(read_network(path), {"unet": unet})


def test_two_files_adapt_one_layer(tmp_path: Path) -> None:
    unet = tiny_unet()
    expected = [random_kohya_file(tmp_path / f"{seed}.safetensors", unet, seed=seed) for seed in (1, 1000)]
    found = [match(read_network(tmp_path / f"{seed}.safetensors"), {"unet": unet}) for seed in (1, 1000)]
    for each, dense in zip(found, expected, strict=True):
        assert_deltas(each.deltas, dense)
    assert not torch.equal(*[dense[unet.conv_in] for dense in expected])


FOREIGN = {
    "SD 1.x": ("lora_unet_down_blocks_9_attentions_0_transformer_blocks_0_attn2_to_k", 768),
    "SD 2.x": ("lora_unet_down_blocks_9_attentions_0_transformer_blocks_0_attn2_to_k", 1024),
    "SDXL": ("lora_unet_input_blocks_40_1_transformer_blocks_0_attn2_to_k", 2048),
    "SD3": ("transformer.transformer_blocks.0.attn.add_k_proj", 1536),
    "Flux": ("lora_unet_double_blocks_0_img_attn_qkv", 3072),
    "an unknown model family": ("base_model.model.model.layers.0.self_attn.q_proj", 4096),
}


@pytest.mark.parametrize("family", FOREIGN)
def test_a_network_for_other_models_is_refused_by_family(tmp_path: Path, family: str) -> None:
    stem, width = FOREIGN[family]
    path = tmp_path / "cat.safetensors"
    save_file(
        {f"{stem}.lora_down.weight": torch.ones(2, width), f"{stem}.lora_up.weight": torch.ones(8, 2)}, path
    )
    with pytest.raises(
        NetworkError, match=f"^cat: does not fit the loaded model: .* for {family}.*; (load|choose) "
    ) as caught:
        match(read_network(path), {"unet": tiny_unet()})
    assert "\n" not in str(caught.value)


def test_all_shapes_wrong_names_both_families(tmp_path: Path) -> None:
    path = tmp_path / "cat.safetensors"
    random_kohya_file(path, unet_reading(768), only=lambda name: "attn2.to_k" in name)
    with pytest.raises(
        NetworkError, match=r"seems to be for SD 1\.x, the loaded model is SD 2\.x .*load a model"
    ):
        match(read_network(path), {"unet": unet_reading(1024)})


def test_a_text_encoder_that_fits_does_not_hide_a_strange_unet(tmp_path: Path) -> None:
    models, path = {"unet": tiny_unet(), "te1": tiny_text_encoder()}, tmp_path / "cat.safetensors"
    random_kohya_file(
        path, unet_reading(2048), models["te1"], only=lambda name: "attn2.to_k" in name or "fc1" in name
    )
    network = read_network(path)
    with pytest.raises(NetworkError, match="does not fit the loaded model: it seems to be for SDXL"):
        match(network, models)
    assert len(match(network, {"te1": models["te1"]}).deltas["te1"]) == 2
    random_kohya_file(path, te1=models["te1"])
    assert match(read_network(path), models).deltas["unet"] == {}


def unet_reading(width: int) -> UNet2DConditionModel:
    return tiny_unet(cross_attention_dim=width)
