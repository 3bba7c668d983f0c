"""What a WebUI will load, known before it does: by its own list and the headers of its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pg.hosts.webui.network_files import (
    KnownNetwork,
    NetworkFiles,
    is_forge,
    kinds_not_loaded,
    similar_network,
)

UNET = "lora_unet_down_blocks_1_attentions_0_transformer_blocks"
Lora = Callable[..., None]


@pytest.fixture
def lora(monkeypatch: pytest.MonkeyPatch) -> Lora:
    """Return what puts the hosts' Lora extension there."""

    def put(available: dict[str, Any], aliases: dict[str, Any] | None = None, forbidden: Any = ()) -> None:
        module = ModuleType("networks")
        module.available_networks = available  # type: ignore[attr-defined]
        module.available_network_aliases = {**available, **(aliases or {})}  # type: ignore[attr-defined]
        module.forbidden_network_aliases = dict.fromkeys(forbidden, 1)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "networks", module)

    return put


def on_disk(path: Path | str = "", **metadata: Any) -> SimpleNamespace:
    return SimpleNamespace(filename=str(path), metadata=metadata)


def written(path: Path, layer: str = f"{UNET}_0_attn2_to_k", width: int = 768) -> Path:
    save_file(
        {f"{layer}.lora_down.weight": torch.ones(2, width), f"{layer}.lora_up.weight": torch.ones(8, 2)}, path
    )
    return path


def test_names_are_looked_up_in_the_very_case_and_by_what_trainers_called_them(lora: Lora) -> None:
    dog, cat = on_disk(trainer="dog"), on_disk(trainer="cat")
    lora({"dog": dog, "cat": cat, "twice": dog}, {"my dog": dog, "twice": cat}, forbidden=["twice"])
    files = NetworkFiles()
    assert files.find("dog") == files.find("my dog") == KnownNetwork({"trainer": "dog"})
    assert files.find("twice") == KnownNetwork({"trainer": "dog"})  # two files call themselves so
    assert files.find("Dog") is None and files.find("bird") is None
    assert similar_network("MY DOG") == "my dog"
    assert similar_network("bird") == ""


def test_metadata_has_texts_alone(lora: Lora) -> None:
    lora({"dog": on_disk(ss_output_name="dog", number=3), "bare": None, "odd": SimpleNamespace(metadata=3)})
    found = NetworkFiles()
    assert found.find("dog") == KnownNetwork({"ss_output_name": "dog"})
    assert found.find("odd") == KnownNetwork()


def test_family_and_kinds_are_read_from_the_header(lora: Lora, tmp_path: Path) -> None:
    lora(
        {
            "old": on_disk(written(tmp_path / "old.safetensors")),
            "deep": on_disk(written(tmp_path / "deep.safetensors", f"{UNET}_3_attn1_to_q", 640)),
            "broken": on_disk(tmp_path / "broken.safetensors"),
            "missing": on_disk(tmp_path / "missing.safetensors"),
        }
    )
    (tmp_path / "broken.safetensors").write_bytes(b"<html>")
    files = NetworkFiles()
    assert files.find("old") == KnownNetwork({}, "SD 1.x", frozenset({"LoRA"}))
    assert files.find("deep") == KnownNetwork({}, "SDXL", frozenset({"LoRA"}))
    assert files.find("broken") == files.find("missing") == KnownNetwork()


def test_a_header_is_read_once_until_its_file_changes(lora: Lora, tmp_path: Path) -> None:
    path = written(tmp_path / "dog.safetensors")
    lora({"dog": on_disk(path)})
    files, before = NetworkFiles(), os.stat(path)
    first = files.find("dog")
    written(path, width=2048)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.find("dog") == first
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    second = files.find("dog")
    assert second is not None and second.family == "SDXL"


@pytest.mark.parametrize("forge", [False, True])
def test_the_checkpoint_of_the_next_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forge: bool
) -> None:
    paths = {}
    for name, width in (("loaded", 768), ("chosen", 2048)):
        key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
        paths[name] = tmp_path / f"{name}.safetensors"
        save_file({key: torch.ones(8, width)}, paths[name])
    loaded, chosen = (SimpleNamespace(filename=str(paths[name])) for name in ("loaded", "chosen"))
    data = SimpleNamespace(sd_model=SimpleNamespace(sd_checkpoint_info=loaded))
    if forge:  # it loads what is chosen with the next picture
        data.forge_loading_parameters = {"checkpoint_info": chosen}
    module = ModuleType("modules.sd_models")
    module.model_data = data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.sd_models", module)
    assert NetworkFiles().family_of_checkpoint() == ("SDXL" if forge else "SD 1.x")


@pytest.mark.parametrize("data", [SimpleNamespace(), SimpleNamespace(sd_model=None)])
def test_no_checkpoint_has_no_family(monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    module = ModuleType("modules.sd_models")
    module.model_data = data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.sd_models", module)
    assert NetworkFiles().family_of_checkpoint() == ""
    monkeypatch.delitem(sys.modules, "modules.sd_models")
    assert NetworkFiles().family_of_checkpoint() == ""


@pytest.mark.parametrize(
    ("modules", "forge", "kinds"),
    [
        ([], False, set()),
        (["modules_forge"], True, {"OFT", "BOFT", "(IA)3"}),
        (["modules_forge", "ldm_patched.modules.weight_adapter"], True, {"(IA)3"}),
    ],
)
def test_what_the_host_does_not_load(
    monkeypatch: pytest.MonkeyPatch, modules: list[str], forge: bool, kinds: set[str]
) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert is_forge() is forge
    assert kinds_not_loaded() == kinds


def test_a_file_that_changes_is_known_by_its_last_header_alone(lora: Lora, tmp_path: Path) -> None:
    """A trainer writes the same name hundreds of times while the page is open."""
    path = tmp_path / "dog.safetensors"
    lora({"dog": on_disk(path)})
    files = NetworkFiles()
    for number in range(3):
        written(path, width=(768, 2048)[number % 2])
        os.utime(path, ns=(number, number))
        known = files.find("dog")
        assert known is not None and known.kinds
    assert len(files._known) == 1
