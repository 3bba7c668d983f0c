"""`inspect`: what it says of a file is what becomes of it on a model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib_pg.cli.inspect.command import about_file
from lib_pg.cli.main import main
from lib_pg.cli.paths import BUNDLED_LORA, BUNDLED_PIPELINE
from lib_pg.formats import NetworkError, match, read_network
from lib_pg.weak_branch.choice import choose
from tests.checkpoints import folder_of, single_file_of
from tests.networks import random_kohya_file
from tests.oracles import CASES, example
from tests.pipelines import sd_pipeline, sdxl_pipeline


class _Model(nn.Module):
    """One layer, where the networks of `oracles` expect it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.mid_block_resnets_0_layer = layer


# Groups of a convolution are not in the file.
@pytest.mark.parametrize("case", [case for case in CASES if getattr(CASES[case][1](), "groups", 1) == 1])
def test_the_engine_of_every_kind_is_the_one_that_the_layer_gets(case: str, tmp_path: Path) -> None:
    made = example(case, tmp_path)
    facts = about_file(made.path).facts
    (deltas,) = match(read_network(made.path), {"unet": _Model(made.layer)}).deltas.values()
    ((layer, delta),) = deltas.items()
    assert layer is made.layer
    if isinstance(layer, nn.Embedding):
        return  # a U-Net has none: text encoders' weights are weakened, which no engine does
    assert facts["engines"] == {choose(layer, [delta]).engine: 1}
    assert facts["kinds"] == {delta.kind: 1}


@pytest.mark.parametrize("rank", [2, 40])
def test_engines_and_costs_of_a_network_are_those_on_the_model(tmp_path: Path, rank: int) -> None:
    pipeline, path = sd_pipeline(), tmp_path / "dog.safetensors"
    random_kohya_file(path, pipeline.unet, te1=pipeline.text_encoder, rank=rank)
    models = {"unet": pipeline.unet, "te1": pipeline.text_encoder}
    deltas = match(read_network(path), models).deltas
    engines = {layer: choose(layer, [delta]).engine for layer, delta in deltas["unet"].items()}
    thin = [layer for layer, engine in engines.items() if engine == "thin"]
    facts = about_file(path).facts
    assert facts["engines"] == Counter(engines.values())
    assert facts["parts"] == {"U-Net": len(engines), "text encoder": len(deltas["te1"])}
    assert facts["ranks"] == {str(rank): len(engines) + len(deltas["te1"])}
    added = sum(deltas["unet"][layer].cost for layer in thin)
    own = max(1, sum(layer.weight.numel() for layer in thin))
    assert facts["added_share"] == pytest.approx(added / own)
    split = sum(layer.weight.numel() for layer in engines if layer not in thin)
    assert facts["weak_weights_bytes"] == 2 * split
    assert (rank > 4) == bool(split)


@pytest.mark.parametrize(("make", "family"), [(sd_pipeline, "SD 1.x"), (sdxl_pipeline, "SDXL")])
def test_a_single_file_is_a_checkpoint(tmp_path: Path, make: type, family: str) -> None:
    pipeline = make()
    facts = about_file(single_file_of(pipeline, tmp_path / "a.safetensors", torch.float16)).facts
    assert (facts["what"], facts["family"], facts["generate"], facts["base"]) == (
        "checkpoint", family, True, True,
    )  # fmt: skip
    numbers = sum(value.numel() for value in pipeline.unet.parameters())
    assert facts["parts"]["U-Net"]["bytes"] == 2 * numbers
    assert ("second text encoder" in facts["parts"]) == (family == "SDXL")
    assert facts["parts"]["VAE"]["tensors"] == 1


def test_a_folder_of_diffusers_is_a_checkpoint(tmp_path: Path) -> None:
    facts = about_file(folder_of(sdxl_pipeline(), tmp_path / "folder")).facts
    assert (facts["family"], facts["pipeline"], facts["generate"]) == (
        "SDXL", "StableDiffusionXLPipeline", True,
    )  # fmt: skip
    assert list(facts["parts"]) == ["U-Net", "text encoder", "second text encoder"]


@pytest.mark.parametrize(
    ("channels", "made_for"), [(4, ""), (9, "inpainting"), (8, "editing by instruction")]
)
def test_what_a_checkpoint_is_made_for(tmp_path: Path, channels: int, made_for: str) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, channels, 3, 3)}, path)
    facts = about_file(path).facts
    assert facts["made_for"].startswith(made_for) and bool(facts["made_for"]) == bool(made_for)
    assert not facts["generate"]  # no text encoder


@pytest.mark.parametrize(
    ("channels", "said"), [(4, "yes"), (9, "yes, with --init-image"), (8, "no: "), (5, "no: ")]
)
def test_what_is_drawn_with_by_a_whole_checkpoint(tmp_path: Path, channels: int, said: str) -> None:
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.ones(8, channels, 3, 3),
        "cond_stage_model.transformer.weight": torch.ones(2, 2),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    about = about_file(tmp_path / "a.safetensors")
    assert dict(about.lines)["generate"].startswith(said)
    assert about.facts["generate"] == said.startswith("yes")


def test_a_vae_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vae.safetensors"
    save_file({f"{end}.weight": torch.ones(2) for end in ("encoder.conv_in", "decoder.conv_out")}, path)
    assert about_file(path).facts["what"] == "VAE"


def test_lines_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(BUNDLED_LORA), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kinds"] == {"LoRA": 118} and facts["ranks"] == {"4": 118}
    assert main(["inspect", str(BUNDLED_LORA)]) == 0
    assert "LoRA 118 layers" in capsys.readouterr().out
    assert main(["inspect", str(BUNDLED_PIPELINE)]) == 0
    assert "--base-checkpoint PATH" in capsys.readouterr().out


def test_a_files_own_text_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dog.safetensors"
    said = {"ss_output_name": "\x1b[2Jdog\nfamily: SDXL" + "x" * 5000}
    random_kohya_file(path, sd_pipeline().unet, metadata=said)
    for arguments in ([], ["--json"]):
        assert main(["inspect", str(path), *arguments]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and "\nfamily" not in out and len(out) < 3000


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04" + b"0" * 50, b"\xff" * 64])
def test_what_is_no_such_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for wrong in (path, tmp_path / "missing", tmp_path, tmp_path / ("x" * 300)):
        assert main(["inspect", str(wrong)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    folder = folder_of(sd_pipeline(), tmp_path / "folder")
    for content in ("{", "[" * 100_000, "x" * (2 << 20)):
        (folder / "model_index.json").write_text(content)
        with pytest.raises(NetworkError, match=r"model_index\.json"):
            about_file(folder)
