"""A base checkpoint is compared with a loaded model once, not for every request."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate import studio
from lib_pg.cli.generate.asked import asked_for
from lib_pg.cli.generate.studio import Made, Studio
from lib_pg.cli.main import _parser
from tests.checkpoints import moved
from tests.pipelines import sd_pipeline

Ask = Callable[..., list[Made]]


@pytest.fixture
def asked(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ask, list[str], list[str]]:
    """Ask one studio for pictures; what was compared, and what was warned of."""
    moved(sd_pipeline(), seed=3).save_pretrained(tmp_path / "start")
    compared: list[str] = []
    compare = studio.load_base_checkpoint

    def counted(pipeline: Any, path: Path, *given: Any) -> Any:
        compared.append(path.name)
        given[1]("a warning of the comparison")
        return compare(pipeline, path, *given)

    monkeypatch.setattr(studio, "load_base_checkpoint", counted)
    said: list[str] = []
    one = Studio(lambda message: None, said.append, bars=False)

    def ask(*options: str, base: bool = True) -> list[Made]:
        given = ["--base-checkpoint", str(tmp_path / "start")] if base else []
        picture = ["--prompt", "a", "--steps", "2", "--seed", "1", "--checkpoint", str(models / "sd")]
        parsed: argparse.Namespace = _parser().parse_args(["generate", *picture, *given, *options])
        with torch.no_grad():
            return list(one.made(asked_for(parsed), parsed))

    return ask, compared, said


def test_the_next_request_has_it_at_hand(asked: tuple[Ask, list[str], list[str]]) -> None:
    ask, compared, said = asked
    first, other = ask(), ask("--weak-ratio", "0.2")
    assert ask() == first != other
    assert compared == ["start"]
    assert said.count("a warning of the comparison") == 3, "each visitor is told"


def test_another_file_another_rank_and_a_request_without_it_compare_anew(
    asked: tuple[Ask, list[str], list[str]], tmp_path: Path
) -> None:
    ask, compared, _ = asked
    ask()
    ask("--weak-memory", "1")
    ask(base=False)
    ask("--weak-memory", "1")
    index = tmp_path / "start" / "model_index.json"
    os.utime(index, ns=(1, 1))
    ask("--weak-memory", "1")
    assert compared == ["start"] * 4


def test_what_is_not_finite_within_a_file_ends_the_request_in_one_line(
    asked: tuple[Ask, list[str], list[str]], tmp_path: Path
) -> None:
    """Only the first values are read at once."""
    (path,) = (tmp_path / "start" / "unet").glob("*.safetensors")
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    assert tensors[name].numel() > 4096
    tensors[name].view(-1)[-1] = torch.inf
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UsageError, match=rf"start: its {name} holds values that are not finite"):
        asked[0]()
