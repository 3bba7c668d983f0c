"""The program that teaches a subject, at two steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from lib_pg.cli.paths import BUNDLED_PIPELINE
from training.train_subject import main


def test_it_leaves_a_network_and_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--base", str(BUNDLED_PIPELINE), "--out", str(tmp_path), "--subject", "ball"]
    how = ["--steps", "2", "--batch", "2", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr("sys.argv", ["train_subject", *given, *how])
    with torch.enable_grad():  # commands that ran before may have switched it off
        main()
    assert {path.name for path in tmp_path.iterdir()} == {"sks_ball.safetensors", "subject.png"}
    with safe_open(tmp_path / "sks_ball.safetensors", "pt") as file:
        assert file.metadata()["ss_max_train_steps"] == "2"
        ups = [file.get_tensor(name) for name in file.keys() if name.endswith("lora_up.weight")]  # noqa: SIM118
    assert ups and all(up.abs().max() > 0 for up in ups)
