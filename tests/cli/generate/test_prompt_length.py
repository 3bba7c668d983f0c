"""Prompts that are longer than a model reads: what is left out is said, and what is read is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_pg.cli.generate.prompt_length import length_notice
from lib_pg.cli.main import main
from tests.pipelines import sd_pipeline


def test_what_is_not_read_is_named() -> None:
    pipeline = sd_pipeline()
    most = pipeline.tokenizer.model_max_length - 2
    fits = " ".join("a" * most)  # a token each
    assert length_notice(pipeline, positive=fits, negative="") == ""
    said = length_notice(pipeline, positive=f"{fits} b c", negative=fits)
    assert f"the first {most} of the" in said and "positive prompt" in said and "negative" not in said
    assert said.endswith("not 'b c'")
    both = length_notice(pipeline, positive=f"{fits} b", negative=f"{fits} {'d ' * 100}")
    assert "negative prompt, not 'd d d" in both and both.endswith("...'")


def test_generate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "a red star on a blue hill, " * 20
    assert main(["generate", "--steps", "1", "--out", str(tmp_path), "--prompt", prompt]) == 0
    assert "tokens of the positive prompt, not 'on a blue hill" in capsys.readouterr().err
