"""`generate --fast`: the same picture, and a word where it cannot be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_pg.cli.main import main
from lib_pg.weak_branch.joined import JoinedLayer


def made(models: Path, out: Path, *options: str) -> np.ndarray:
    network = ["--lora", str(models / "sd_dog.safetensors")]
    picture = ["--prompt", "a sks dog", "--steps", "3", "--seed", "7", "--weak-ratio", "0.3"]
    assert (
        main(
            ["generate", "--checkpoint", str(models / "sd"), "--out", str(out), *network, *picture, *options]
        )
        == 0
    )
    (path,) = out.glob("*.png")
    return np.asarray(Image.open(path), dtype=int)


def test_the_picture_is_the_same(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = made(models, tmp_path / "slow")
    products = []
    multiply = JoinedLayer._multiply

    def counted(layer: JoinedLayer, x: object) -> object:
        output = multiply(layer, x)  # type: ignore[arg-type]
        products.append(output is not None)
        return output

    monkeypatch.setattr(JoinedLayer, "_multiply", counted)
    fast = made(models, tmp_path / "fast", "--fast")
    assert products and all(products)
    assert np.abs(fast - slow).max() <= 1  # of 255: rounding


def test_a_weak_ratio_that_changes_has_none_and_says_so(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    falling = ("--schedule", "Linear", "--weak-ratio-end", "0.9")
    slow = made(models, tmp_path / "slow", *falling)
    assert "fast steps" not in capsys.readouterr().err
    fast = made(models, tmp_path / "fast", *falling, "--fast")
    assert "No fast steps: the weak ratio changes from step to step" in capsys.readouterr().err
    assert np.array_equal(fast, slow)
