"""What visitors can choose, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.paths import BUNDLED_LORA, BUNDLED_PIPELINE
from lib_pg.cli.serve.shelf import BUNDLED_NAME, Shelf


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_without_folders_there_is_the_bundled_model() -> None:
    shelf = Shelf(None, None)
    assert dict(shelf.checkpoints) == {BUNDLED_NAME: BUNDLED_PIPELINE}
    assert dict(shelf.networks) == {BUNDLED_LORA.stem: BUNDLED_LORA}


def test_files_and_diffusers_folders_are_found_by_name(tmp_path: Path) -> None:
    made(
        tmp_path, "b.safetensors", "deep/A.safetensors", "old.ckpt",
        "whole/model_index.json", "whole/unet/diffusion_pytorch_model.safetensors",
    )  # fmt: skip
    shelf = Shelf(tmp_path, None)
    assert dict(shelf.checkpoints) == {
        "A": tmp_path / "deep" / "A.safetensors",
        "b": tmp_path / "b.safetensors",
        "whole": tmp_path / "whole",
    }
    assert dict(shelf.networks) == {}


def test_files_of_one_name_are_told_apart_and_new_ones_found(tmp_path: Path) -> None:
    shelf = Shelf(None, made(tmp_path, "a/dog.safetensors", "b/dog.safetensors"))
    assert list(shelf.networks) == ["a/dog", "b/dog", BUNDLED_LORA.stem]
    made(tmp_path, "cat.safetensors")
    assert shelf.network("cat") is None
    shelf.look()
    assert shelf.network("CAT") == tmp_path / "cat.safetensors"


@pytest.mark.parametrize("name", ["../dog", "/etc/passwd", "dog.safetensors", ""])
def test_a_path_is_no_name(tmp_path: Path, name: str) -> None:
    made(tmp_path, "dog.safetensors", "below/other.safetensors")
    assert Shelf(None, tmp_path / "below").network(name) is None


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--networks '.*nothing' is no folder"):
        Shelf(None, tmp_path / "nothing")


def test_the_line_knows_the_networks_and_what_cannot_be_read(tmp_path: Path) -> None:
    files = Shelf(None, made(tmp_path, "broken.safetensors")).host_files()
    known = files.find(BUNDLED_LORA.stem)
    assert known is not None and known.kinds == {"LoRA"}
    assert known.metadata["ss_network_module"] == "networks.lora"  # by which accelerators are told
    broken = files.find("broken")
    assert broken is not None and broken.kinds == frozenset()
    assert files.find("none") is None
    assert files.has_checkpoint(BUNDLED_NAME) and not files.has_checkpoint("other")
