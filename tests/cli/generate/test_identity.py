"""Networks by their files, in pictures: as the program draws them, and as a program of others does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from lib_pg.cli.main import main
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import parse
from lib_pg.deltas.merge import parameters_of
from lib_pg.hosts.diffusers import installed, load_network
from lib_pg.networks import plan
from lib_pg.settings import Settings
from tests.pipelines import sd_pipeline

FAST = ["--steps", "2", "--seed", "7", "--prompt", "a sks dog"]
NAME = "pytorch_lora_weights.safetensors"


@pytest.fixture
def files(models: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two networks of one name, as diffusers' training scripts save them."""
    for lora in ("dog", "style"):
        (tmp_path / lora).mkdir()
        shutil.copy(models / f"sd_{lora}.safetensors", tmp_path / lora / NAME)
    return tmp_path / "dog" / NAME, tmp_path / "style" / NAME


def _draw(models: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Path, str]:
    out = models / "identity"
    assert main(["generate", "--checkpoint", str(models / "sd"), "--out", str(out), *arguments]) == 0
    printed = capsys.readouterr()
    return Path(printed.out.strip()), printed.err


def _same(one: Path, other: Path) -> bool:
    return ImageChops.difference(Image.open(one), Image.open(other)).getbbox() is None


def test_two_files_of_one_name_are_both_in_the_picture_and_come_back(
    models: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dog, style = (str(file) for file in files)
    both, said = _draw(models, capsys, *FAST, "--lora", f"{dog}:0.5", "--lora", style)
    assert "dog/pytorch_lora_weights 0.5 -> 0.35" in said
    assert "style/pytorch_lora_weights 1 -> 0.7" in said
    found = parse(read_parameters(both))
    assert (
        found.prompt == "a sks dog <lora:dog/pytorch_lora_weights:0.5> <lora:style/pytorch_lora_weights:1.0>"
    )
    other = [str(models / "sd_dog.safetensors"), str(models / "sd_style.safetensors")]
    expected, _ = _draw(models, capsys, *FAST, "--lora", f"{other[0]}:0.5", "--lora", other[1])
    assert _same(both, expected)
    for one, two in ((dog, style), (style, dog), other):
        again, _ = _draw(models, capsys, "--from-png", str(both), "--lora", one, "--lora", two)
        assert _same(again, both)
        assert read_parameters(again) == read_parameters(both)
    alone, _ = _draw(models, capsys, *FAST, "--lora", style)
    assert not _same(alone, both)


def test_a_file_given_twice_is_in_the_picture_twice_and_comes_back(
    models: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dog = str(files[0])
    twice, said = _draw(models, capsys, *FAST, "--lora", f"{dog}:0.5", "--lora", f"{dog}:0.25:weak=0")
    assert "is given 2 times and used as often; its strengths add up, to 0.75" in said
    again, _ = _draw(models, capsys, "--from-png", str(twice), "--lora", dog)
    assert _same(again, twice)
    assert read_parameters(again) == read_parameters(twice)


def test_strengths_of_its_own_for_the_text_encoder(files: tuple[Path, Path]) -> None:
    """As in the WebUIs: `:0.5:0.8` is the text encoder's, then the U-Net's."""
    pipeline = sd_pipeline()
    split = load_network(pipeline, files[0], 0.8, te_strength=0.5)
    assert split.strength == 0.8
    layers = {"unet": 0.8, "te1": 0.5}
    for component, strength in layers.items():
        whole = load_network(pipeline, files[0], strength).parts[component]
        for network in ([split], [load_network(pipeline, files[0], strength)]):
            with installed(network):
                weights = [parameters_of(module)["weight"].clone() for module in whole.deltas]  # type: ignore[union-attr]
            if network == [split]:
                first = weights
        assert all(torch.equal(one, other) for one, other in zip(first, weights, strict=True))


def test_a_program_of_others_names_them(files: tuple[Path, Path]) -> None:
    pipeline = sd_pipeline()
    dog, style = (load_network(pipeline, file, name=file.parent.name) for file in files)
    unnamed = load_network(pipeline, files[0])
    assert (dog.name, style.name, unnamed.name) == ("dog", "style", "pytorch_lora_weights")
    assert plan(Settings(enabled=True, networks="dog"), [dog, style]).ratios(0.3) == (0.3, 1.0)
