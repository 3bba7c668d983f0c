"""What cannot be done is one line, exit code 2, and nothing on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib_pg.cli.main import main
from lib_pg.cli.picture_files import png_with

FAST = ["--steps", "3", "--seed", "7", "--prompt", "a sks dog"]

BAD = {
    "no checkpoint": (["--checkpoint", "missing"], "'missing' does not exist"),
    "not a checkpoint": (["--checkpoint", "{models}/sd_dog.safetensors"], "a LoRA is given with --lora"),
    "a pickle": (["--checkpoint", "{tmp}/model.ckpt"], "can run code"),
    "a damaged file": (["--checkpoint", "{tmp}/model.safetensors"], "damaged"),
    "an empty folder": (["--checkpoint", "{tmp}"], "has no model_index.json"),
    "a bad config": (["--checkpoint", "{tmp}/single.safetensors", "--config", "{tmp}"], "no folder in"),
    "no network": (["--lora", "missing.safetensors"], "missing"),
    "a network for SDXL": (["--lora", "{models}/sdxl_dog.safetensors"], "does not fit"),
    "an unknown option": (["--weak-ration", "1"], "--weak-ration"),
    "omega out of range": (["--weak-ratio", "1.5"], "from 0 to 1"),
    "omega not a number": (["--weak-ratio", "nan"], "from 0 to 1"),
    "scale": (["--scale", "nan"], "between 0.0 and 100.0"),
    "steps": (["--steps", "0"], "between 1 and 1000"),
    "too great a seed": (["--seed", str(2**63 - 1)], "seed is"),
    "too great a last seed": (["--seed", str(2**63 - 4), "--count", "9"], "seed is"),
    "width": (["--width", "60"], "multiple of 8, such as 56"),
    "height": (["--height", "20"], "multiple of 8, such as 16"),
    "schedule type": (["--sampler", "DDIM", "--schedule-type", "Karras"], "cannot follow"),
    "a device without numbers": (["--device", "meta"], "choose another with --device"),
    "an --out that is a file": (["--out", "{tmp}/model.ckpt"], "choose another with --out"),
    "an --out below a file": (["--out", "{tmp}/model.ckpt/out"], "choose another with --out"),
    "a checkpoint with a name too long": (["--checkpoint", "x" * 999], "does not exist"),
    "three strengths": (["--lora", "x.safetensors:1:1:1"], "more than two strengths"),
    "sampler": (["--sampler", "Eular"], "Eular"),
    "device": (["--device", "cuda:77"], "cuda:77"),
    "strength": (["--lora", "x.safetensors:1e9"], "between -100 and 100"),
    "own ratio": (["--lora", "x.safetensors:1:pg=2"], "between 0 and 1"),
    "own strength": (["--lora", "x.safetensors:1:weak=3"], "between -2 and 2"),
    "own strength not a number": (["--lora", "x.safetensors:weak=x"], "expected a number"),
    "no base": (["--base-checkpoint", "{tmp}/nowhere.safetensors"], "there is no such file"),
    "another base": (["--base-checkpoint", "{models}/sdxl"], "for another architecture or incomplete"),
    "a base that is a pickle": (["--base-checkpoint", "{tmp}/model.ckpt"], "pickle"),
    "a tag": (["--prompt", "dog <lora:x:1>"], "--lora PATH"),
    "a prompt that would not read back": (["--prompt", "a\nNegative prompt: b"], "would not read back"),
    "not a picture": (["--from-png", "{models}/sd_dog.safetensors"], "cannot be read as a PNG, JPEG or"),
    "a folder": (["--from-png", "{tmp}"], "cannot be read as a PNG, JPEG or"),
    "a picture without parameters": (["--from-png", "{tmp}/plain.png"], "no generation parameters"),
    "hostile parameters": (["--from-png", "{tmp}/hostile.png"], "expected a whole number"),
    "hostile settings": (["--from-png", "{tmp}/settings.png"], "from 0 to 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    case: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04.")
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    save_file({"cond_stage_model.transformer.x": torch.zeros(1)}, tmp_path / "single.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    pairs = "Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64"
    image = Image.new("RGB", (8, 8))
    (tmp_path / "hostile.png").write_bytes(png_with(image, f"dog\nSteps: 1e99, {pairs}"))
    (tmp_path / "settings.png").write_bytes(png_with(image, f"dog\nSteps: 3, {pairs}, PG weak ratio: 7"))
    options, message = BAD[case]
    filled = [option.replace("{models}", str(models)).replace("{tmp}", str(tmp_path)) for option in options]
    png = [] if "--from-png" in filled else FAST
    code = _exit_code(
        ["generate", "--checkpoint", str(models / "sd"), "--out", str(tmp_path / "out"), *png, *filled]
    )
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


def _exit_code(arguments: list[str]) -> Any:
    try:
        return main(arguments)
    except SystemExit as stop:  # argparse
        return stop.code
