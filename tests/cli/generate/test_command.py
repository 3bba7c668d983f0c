"""`generate` as a user runs it, on small random pipelines saved to disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from safetensors.torch import save_file

from lib_pg.cli.main import main
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import parse
from tests.checkpoints import moved
from tests.networks import random_peft_file
from tests.pipelines import sd_pipeline, sdxl_pipeline

Run = Callable[..., list[Path]]
FAST = ["--steps", "3", "--seed", "7", "--prompt", "a sks dog"]


@pytest.fixture
def run(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def generate(
        *arguments: str, model: str = "sd", lora: str | None = "dog", strength: str = ""
    ) -> list[Path]:
        chosen = [] if lora is None else ["--lora", f"{models / f'{model}_{lora}.safetensors'}{strength}"]
        checkpoint = ["--checkpoint", str(models / model), "--out", str(tmp_path / "out")]
        assert main(["generate", *checkpoint, *chosen, *arguments]) == 0
        return [Path(line) for line in capsys.readouterr().out.splitlines()]

    return generate


def same_pixels(one: Path, other: Path) -> bool:
    return ImageChops.difference(Image.open(one), Image.open(other)).getbbox() is None


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_picture_says_how_it_was_made(run: Run, model: str) -> None:
    (path,) = run(
        *FAST, "--weak-ratio", "0.4", "--negative", "ugly", model=model, strength=":0.5:pg=0.25:weak=-0.4"
    )
    found = parse(read_parameters(path))
    assert found.prompt == f"a sks dog <lora:{model}_dog:0.5:pg=0.25:weak=-0.4>"
    assert found.negative == "ugly"
    expected = {
        "Steps": "3",
        "Seed": "7",
        "Size": "64x64",
        "PG mode": "PG",
        "PG weak ratio": "0.4",
        "Model": model,
    }
    assert expected.items() <= found.pairs.items()
    assert "PG start" not in found.pairs
    assert str(path.parent) not in read_parameters(path)


def test_a_folder_of_peft_is_a_network(run: Run, models: Path, tmp_path: Path) -> None:
    """Its config says how strong it is: alpha 8 at rank 4 is twice as strong as no alpha."""
    folder = tmp_path / "a dog"
    folder.mkdir()
    random_peft_file(
        folder / "adapter_model.safetensors", sd_pipeline().unet, prefix=lambda _: "base_model.model."
    )
    (path,) = run(*FAST, "--lora", str(folder), lora=None)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    (twice,) = run(*FAST, "--lora", f"{folder}", lora=None)
    (expected,) = run(*FAST, "--lora", f"{folder}:0.5", lora=None)
    assert parse(read_parameters(twice)).prompt == "a sks dog <lora:a dog:1.0>"
    assert same_pixels(path, expected)
    assert not same_pixels(path, twice)


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_full_fine_tune_is_weakened_towards_its_base(
    run: Run, models: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make = sd_pipeline if model == "sd" else sdxl_pipeline
    base = moved(make(), seed=3).save_pretrained(tmp_path / "start") or tmp_path / "start"
    (path,) = run(*FAST, "--base-checkpoint", str(base), "--weak-ratio", "0.3", model=model, lora=None)
    (again,) = run("--from-png", str(path), "--base-checkpoint", str(base), model=model, lora=None)
    (plain,) = run(*FAST, model=model, lora=None)
    assert parse(read_parameters(path)).pairs["PG base checkpoint"] == "start"
    assert same_pixels(path, again)
    assert not same_pixels(path, plain)
    assert main(["generate", "--from-png", str(path), "--checkpoint", str(models / model)]) == 2
    assert "base checkpoint 'start'; give it with --base-checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("own", [":0:weak=1", ":0.7:weak=0.2", ":0.9:pg=0.5", ":0.9"])
def test_a_png_repeats_a_strength_of_the_weak_branch(run: Run, own: str) -> None:
    (path,) = run(*FAST, strength=own)
    (again,) = run("--from-png", str(path))
    (plain,) = run(*FAST, strength=":0.9")
    assert same_pixels(path, again)
    assert same_pixels(path, plain) == (own == ":0.9")


@pytest.mark.parametrize(
    "options",
    [
        ["--weak-ratio", "0.2"],
        ["--mode", "AG", "--scale", "4.25", "--sampler", "Euler a"],
        ["--mode", "CFG", "--negative", "ugly, 'blurry': \"bad\"\nSteps: 3"],
        ["--schedule", "Cosine", "--weak-ratio-end", "0", "--start", "0.3", "--outside", "None"],
        ["--weak-prompt", "Negative", "--negative", "ugly", "--sampler", "DPM++ 2M SDE"],
        ["--networks", "sd_dog, other", "--dtype", "bfloat16", "--width", "72", "--height", "56"],
    ],
    ids=lambda options: options[0] + options[1],
)
def test_a_png_repeats_its_picture_exactly(run: Run, options: list[str]) -> None:
    (path,) = run(*FAST, *options, strength=":0.9")
    (again,) = run("--from-png", str(path))
    assert again != path
    assert read_parameters(again) == read_parameters(path)
    assert same_pixels(path, again)


def test_one_picture_of_a_batch_is_repeated_alone(run: Run) -> None:
    pictures = run(*FAST, "--batch", "3", "--sampler", "Euler a")
    assert [parse(read_parameters(path)).pairs["Seed"] for path in pictures] == ["7", "8", "9"]
    (again,) = run("--from-png", str(pictures[1]))
    assert same_pixels(pictures[1], again)
    assert not same_pixels(pictures[0], again)


def test_other_options_change_a_repeated_picture(run: Run) -> None:
    (path,) = run(*FAST, "--weak-ratio", "0.9")
    (other,) = run("--from-png", str(path), "--weak-ratio", "0")
    assert not same_pixels(path, other)
    assert parse(read_parameters(other)).pairs["PG weak ratio"] == "0"
    assert parse(read_parameters(other)).pairs["Seed"] == "7"


def test_a_plain_picture_is_repeated_without_guidance(run: Run) -> None:
    (path,) = run(*FAST, "--mode", "CFG")
    assert not any(key.startswith("PG") for key in parse(read_parameters(path)).pairs)
    (again,) = run("--from-png", str(path))
    assert same_pixels(path, again)


def test_guidance_that_did_not_run_is_not_claimed(run: Run) -> None:
    (path,) = run(*FAST, "--scale", "1")
    assert "PG mode" not in parse(read_parameters(path)).pairs


def test_count_makes_more_batches_with_other_seeds(run: Run) -> None:
    pictures = run(*FAST, "--batch", "2", "--count", "2")
    assert [parse(read_parameters(path)).pairs["Seed"] for path in pictures] == ["7", "8", "9", "10"]
    assert len(set(pictures)) == 4


def test_without_a_network_it_is_said_what_happens(
    run: Run, capsys: pytest.CaptureFixture[str], models: Path
) -> None:
    arguments = ["generate", "--checkpoint", str(models / "sd"), "--out", str(models / "out"), *FAST]
    assert main(arguments) == 0
    assert "plain CFG is used" in capsys.readouterr().err


def test_a_network_of_the_picture_must_be_given_and_be_the_same(
    run: Run, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = run(*FAST)
    again = [
        "generate",
        "--checkpoint",
        str(models / "sd"),
        "--from-png",
        str(path),
        "--out",
        str(path.parent),
    ]
    assert main(again) == 2
    assert "'sd_dog'; give its file with --lora" in capsys.readouterr().err
    other = models / "elsewhere" / "sd_dog.safetensors"
    other.parent.mkdir(exist_ok=True)
    other.write_bytes((models / "sd_style.safetensors").read_bytes())
    assert main([*again, "--lora", str(other)]) == 0
    assert "'sd_dog' is another file" in capsys.readouterr().err


def test_a_single_file_without_its_configuration_says_how_to_give_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = tmp_path / "model.safetensors"
    save_file({"cond_stage_model.transformer.x": torch.zeros(1)}, file)
    assert main(["generate", "--checkpoint", str(file), "--out", str(tmp_path), *FAST]) == 2
    assert "--config FOLDER" in capsys.readouterr().err


def test_help_needs_no_torch_and_names_every_option() -> None:
    code = """
import sys
from lib_pg.cli.main import main
try:
    main(["generate", "--help"])
finally:
    sys.exit(any(heavy in sys.modules for heavy in ("torch", "diffusers", "numpy")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for option in (
        "--checkpoint",
        "--lora",
        "--mode",
        "--weak-ratio",
        "--schedule",
        "--outside",
        "--from-png",
    ):
        assert option in done.stdout
    assert "{PG,AG,CFG}" in done.stdout
