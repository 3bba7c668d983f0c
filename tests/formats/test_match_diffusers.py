"""Network files against diffusers: original names as it converts them, merged weights as it merges them."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn

from lib_pg.deltas import ActiveNetwork
from lib_pg.deltas.merge import add_networks
from lib_pg.formats import match, read_network
from lib_pg.formats.ldm import ldm_names
from tests.networks import (
    adapted_layers,
    ldm_layout,
    ldm_paths,
    random_kohya_file,
    random_peft_file,
    tiny_text_encoder,
    tiny_unet,
)

SD1 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD2 = SD1 | {
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
BUNDLED = {
    "block_out_channels": (64, 64, 96),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 96,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
}
CONFIGS = {"SD1": SD1, "SD2": SD2, "SDXL": SDXL, "BUNDLED": BUNDLED}
# Layers of the original SDXL and SD 1.x as published networks name them, with what they are.
KNOWN = [
    ("SD1", "input_blocks.1.1.proj_in", "down_blocks.0.attentions.0.proj_in"),
    ("SD1", "input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
    ("SD1", "output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv"),
    ("SD1", "output_blocks.5.2.conv", "up_blocks.1.upsamplers.0.conv"),
    ("SDXL", "input_blocks.4.1.proj_in", "down_blocks.1.attentions.0.proj_in"),
    ("SDXL", "input_blocks.4.0.skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
    ("SDXL", "output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv"),
    ("SDXL", "middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
    ("SDXL", "label_emb.0.2", "add_embedding.linear_2"),
    ("SDXL", "out.2", "conv_out"),
]


@functools.cache
def meta_unet(config: str) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(layers_per_block=2, **CONFIGS[config])


@pytest.mark.parametrize("config", CONFIGS)
def test_original_names_are_those_of_diffusers_own_conversion(config: str) -> None:
    unet = meta_unet(config)
    truth = {original: path for path, original in ldm_paths(unet).items()}
    assert len(truth) == len(ldm_layout(dict(unet.config)))
    ours = ldm_names(path for path, _ in unet.named_modules())
    assert {original: ours.get(original) for original in truth} == truth
    unnamed = adapted_layers(unet).keys() - truth.values()
    assert all(path.startswith("add_embedding.") for path in unnamed)
    assert not unnamed or config == "BUNDLED"


@pytest.mark.parametrize(("config", "original", "path"), KNOWN, ids=[known[1] for known in KNOWN])
def test_known_original_names(config: str, original: str, path: str) -> None:
    assert ldm_names(dict(meta_unet(config).named_modules()))[original] == path


def pipeline(xl: bool) -> tuple[DiffusionPipeline, dict[str, nn.Module]]:
    models = {"unet": tiny_unet(xl), "te1": tiny_text_encoder()}
    if xl:
        models["te2"] = tiny_text_encoder(projection=True)
        made = StableDiffusionXLPipeline(
            vae=None,
            text_encoder=models["te1"],
            text_encoder_2=models["te2"],
            tokenizer=None,
            tokenizer_2=None,
            unet=models["unet"],
            scheduler=None,
        )
        return made, models
    made = StableDiffusionPipeline(
        vae=None,
        text_encoder=models["te1"],
        tokenizer=None,
        unet=models["unet"],
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return made, models


def assert_same_as_diffusers(path: Path, xl: bool, **how_to_read: object) -> None:
    """Merge a file with diffusers and with us: all weights of all models agree, and most are new."""
    theirs, models = pipeline(xl)
    before = {name: copy.deepcopy(model) for name, model in models.items()}
    ours = {name: copy.deepcopy(model) for name, model in models.items()}
    theirs.load_lora_weights(str(path.parent), weight_name=path.name, **how_to_read)
    theirs.fuse_lora(components=["unet", "text_encoder", "text_encoder_2"][: len(models)])
    theirs.unload_lora_weights()
    found = match(read_network(path), ours)
    assert not found.unmatched
    for component, layers in found.deltas.items():
        add_networks([ActiveNetwork("cat", layers)])
        original, wanted = before[component].state_dict(), models[component].state_dict()
        changed = [key for key, value in wanted.items() if not torch.equal(value, original[key])]
        assert len(changed) == len(layers) > 0
        torch.testing.assert_close(dict(ours[component].state_dict()), dict(wanted), rtol=1e-5, atol=1e-5)


# What diffusers 0.42 itself cannot read in these namings.
UNREAD_BY_DIFFUSERS = {(False, True): "upsamplers", (True, False): "add_embedding"}


@pytest.mark.parametrize("ldm", [False, True], ids=["diffusers", "original"])
@pytest.mark.parametrize("xl", [False, True], ids=["SD", "SDXL"])
def test_kohya_as_diffusers_merges_it(tmp_path: Path, xl: bool, ldm: bool) -> None:
    pytest.importorskip("peft")
    _, models = pipeline(xl)
    unread = UNREAD_BY_DIFFUSERS.get((xl, ldm), "nothing")
    random_kohya_file(
        tmp_path / "cat.safetensors",
        **models,
        ldm=ldm,
        te1_prefix="lora_te1_" if xl else "lora_te_",
        only=lambda name: unread not in name,
    )
    # Only for SDXL does diffusers expect original names by itself.
    how_to_read = {} if xl or not ldm else {"unet_config": models["unet"].config}
    assert_same_as_diffusers(tmp_path / "cat.safetensors", xl, **how_to_read)


@pytest.mark.parametrize("style", ["peft", "diffusers"])
@pytest.mark.parametrize("xl", [False, True], ids=["SD", "SDXL"])
def test_dotted_as_diffusers_merges_it(tmp_path: Path, xl: bool, style: str) -> None:
    pytest.importorskip("peft")
    _, models = pipeline(xl)
    random_peft_file(tmp_path / "cat.safetensors", **models, style=style)
    assert_same_as_diffusers(tmp_path / "cat.safetensors", xl)


@pytest.mark.parametrize("root_stabilised", [False, True])
def test_adapter_metadata_as_diffusers_merges_it(tmp_path: Path, root_stabilised: bool) -> None:
    peft = pytest.importorskip("peft")
    made, _ = pipeline(xl=False)
    special = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    pattern = {} if root_stabilised else {special: 5, "attn2.to_k": 7}
    config = peft.LoraConfig(
        r=4,
        lora_alpha=3,
        alpha_pattern=pattern,
        rank_pattern={},
        use_rslora=root_stabilised,
        target_modules=["to_q", "to_k", "conv1"],
        init_lora_weights=False,
    )
    made.unet.add_adapter(config)
    text_config = peft.LoraConfig(r=4, lora_alpha=9, target_modules=["q_proj"], init_lora_weights=False)
    made.text_encoder.add_adapter(text_config)
    made.save_lora_weights(
        tmp_path,
        unet_lora_layers=peft.get_peft_model_state_dict(made.unet),
        text_encoder_lora_layers=peft.get_peft_model_state_dict(made.text_encoder),
        unet_lora_adapter_metadata=config.to_dict(),
        text_encoder_lora_adapter_metadata=text_config.to_dict(),
    )
    path = tmp_path / "pytorch_lora_weights.safetensors"
    network = read_network(path)
    assert json.loads(network.metadata["lora_adapter_metadata"])["unet.lora_alpha"] == 3
    scales = {delta.scale for delta in network.layers.values()}
    assert scales == ({3 / 2, 9 / 4} if root_stabilised else {3 / 4, 5 / 4, 7 / 4, 9 / 4})
    assert_same_as_diffusers(path, xl=False)
