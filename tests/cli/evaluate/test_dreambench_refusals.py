"""What the protocol refuses, in one line and before the work."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lib_pg.cli.main import main
from tests.cli.evaluate.dreambench_models import arguments, save_all
from tests.pipelines import sd_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dreambench")
    save_all(folder)
    return folder


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"methods": "PG 0.4"}, "method 'PG 0.4' is not known; choose with --methods from CFG; "),
        ({"methods": ";"}, "no method is named"),
        ({"width": "60"}, "width is 60; it must be a multiple of"),
        ({"clip": "{folder}/dino"}, "--clip .* is a 'vit' model"),
        ({"checkpoint": "{folder}/none"}, "none' cannot be read: No such file"),
        ({"dinov2": "none", "fidelity": "dinov2"}, "--fidelity is dinov2, and --dinov2 none"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
    ],
)
def test_what_cannot_be_met_is_said_in_a_line(
    folder: Path,
    tmp_path: Path,
    changed: dict[str, str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {name: value.format(folder=folder) for name, value in changed.items()}
    assert main(arguments(folder, tmp_path / "out", **given)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert re.search(problem, said)


def test_a_reference_that_cannot_be_used_is_said_before_the_work(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "subjects", tmp_path / "subjects")
    path = tmp_path / "subjects" / "rex" / "02.png"
    path.write_bytes(b"GIF89a")
    assert main(arguments(folder, tmp_path / "out", subjects=str(tmp_path / "subjects"))) == 2
    assert "02.png' cannot be read as a picture" in capsys.readouterr().err
    Image.new("1", (9000, 9000)).save(path)
    assert main(arguments(folder, tmp_path / "out", subjects=str(tmp_path / "subjects"))) == 2
    assert "02.png' has 9000 x 9000 pixels" in capsys.readouterr().err
    path.write_bytes(b"")
    os.truncate(path, 65 << 20)
    assert main(arguments(folder, tmp_path / "out", subjects=str(tmp_path / "subjects"))) == 2
    assert "02.png' is over 64 MiB" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["3;5", "", "1", "nan", "3,many"])
def test_scales_that_cannot_be_used_are_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--protocol", "dreambench", f"--scales={text}"])
    assert f"scales are {text!r}; write numbers with commas between, each above 1, to 100" in (
        capsys.readouterr().err
    )


def test_pictures_that_are_no_numbers_are_not_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where half precision overflows: they would be black, and have scores."""
    pipeline = sd_pipeline()
    list(pipeline.vae.decoder.parameters())[-1].data.fill_(float("nan"))
    pipeline.save_pretrained(tmp_path / "sd")
    assert main(arguments(folder, tmp_path / "out", checkpoint=str(tmp_path / "sd"))) == 2
    assert "pictures of CFG at scale 2 come to values that are no numbers" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("pictures/*/*.png"))


def test_a_method_that_did_not_run_is_not_claimed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At strength 0 there is nothing to weaken: PG's pictures would be CFG's."""
    shutil.copytree(folder / "subjects" / "mug", tmp_path / "subjects" / "mug")
    said = {"class": "mug", "strength": 0}
    (tmp_path / "subjects" / "mug" / "subject.json").write_text(json.dumps(said), "utf-8")
    assert main(arguments(folder, tmp_path / "out", subjects=str(tmp_path / "subjects"))) == 2
    assert "PG 0.5 did not run with this fine-tune" in capsys.readouterr().err
