"""Presets come back as they were saved, and no file of them can do harm."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lib_pg.page import presets
from lib_pg.page.presets import PresetError, PresetStore
from lib_pg.presets import BUILT_IN
from lib_pg.settings import Settings

SETTINGS = Settings(mode="AG", weak_ratio=0.25, schedule="Linear", networks="dog, cat", hires="Own")


@pytest.fixture
def store(tmp_path: Path) -> PresetStore:
    return PresetStore(tmp_path / "presets")


def written(folder: Path, text: str | bytes) -> PresetStore:
    folder.mkdir(exist_ok=True)
    (folder / "presets.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return PresetStore(folder)


def test_the_built_in_ones_are_there_first(store: PresetStore) -> None:
    first = ["Balanced", "Strong subject", "Gentle", "CFG-equivalent"]
    assert store.names() == [*first, "Keep the prompt", "Keep the subject", "Half price"]
    assert store.get("Balanced") == Settings()


def test_the_equivalent_of_cfg_weakens_nothing() -> None:
    equivalent = BUILT_IN["CFG-equivalent"]
    assert (equivalent.weak_ratio, equivalent.weak_ratio_end, equivalent.hires_weak_ratio) == (1, 1, 1)
    assert equivalent.weak_prompt == "Negative"


def test_save_load_and_delete(store: PresetStore, tmp_path: Path) -> None:
    enabled = Settings(**{**SETTINGS.to_dict(), "enabled": True})
    assert store.save("  my dog ", enabled) == "my dog"
    again = PresetStore(tmp_path / "presets")
    assert again.names()[-1] == "my dog"
    assert again.get("my dog") == SETTINGS  # but for the tick
    again.save("my dog", Settings(weak_ratio=0.1))
    assert store.get("my dog").weak_ratio == 0.1
    store.delete("my dog")
    assert again.names() == list(BUILT_IN)
    assert os.listdir(tmp_path / "presets") == ["presets.json"]


@pytest.mark.parametrize(
    "name", ["", "   ", "x" * 61, "a\nb", "a\u202eb", "a\x00", "\ud800", "Balanced", " Gentle "]
)
def test_bad_names_are_refused(store: PresetStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(PresetError):
        store.save(name, SETTINGS)
    assert not (tmp_path / "presets").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "CON", "a/b\\c", "犬 ☆", "<b>"])
def test_names_are_never_paths(store: PresetStore, tmp_path: Path, name: str) -> None:
    store.save(name, SETTINGS)
    assert store.get(name) == SETTINGS
    assert os.listdir(tmp_path) == ["presets"] and os.listdir(tmp_path / "presets") == ["presets.json"]


@pytest.mark.parametrize("name", ["Balanced", "missing", ""])
def test_only_own_ones_are_deleted(store: PresetStore, name: str) -> None:
    with pytest.raises(PresetError):
        store.delete(name)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"a"', b"\xff\xfe", "[" * 100_000, '{"a":' * 50_000, " " * 1_000_001,
     json.dumps({str(number): {} for number in range(201)})],
    ids=["empty", "cut", "list", "null", "text", "bytes", "deep list", "deep object", "long", "many"],
)  # fmt: skip
def test_a_hostile_file_has_no_presets_and_is_not_overwritten(tmp_path: Path, text: str | bytes) -> None:
    store = written(tmp_path, text)
    before = (tmp_path / "presets.json").read_bytes()
    assert store.names() == list(BUILT_IN)
    assert store.get("Gentle") == BUILT_IN["Gentle"]
    for action in (lambda: store.save("x", SETTINGS), lambda: store.delete("x"), lambda: store.get("x")):
        with pytest.raises(PresetError, match="move it away"):
            action()
    assert (tmp_path / "presets.json").read_bytes() == before


@pytest.mark.parametrize(
    "values", [3, None, [], {"weak_ratio": 7}, {"weak_ratio": float("nan")}, {"later": 1}, {"mode": {"a": 1}}]
)
def test_a_hostile_preset_is_refused_alone(tmp_path: Path, values: Any) -> None:
    store = written(tmp_path, json.dumps({"bad": values, "good": {"weak_ratio": 0.5}}))
    with pytest.raises(PresetError, match="not usable"):
        store.get("bad")
    assert store.get("good").weak_ratio == 0.5
    store.save("new", SETTINGS)  # what a later version wrote stays in the file
    assert "bad" in store.names()


def test_a_file_cannot_take_the_name_of_a_built_in_one_or_switch_on(tmp_path: Path) -> None:
    store = written(tmp_path, json.dumps({"Balanced": {"weak_ratio": 0.1}, "on": {"enabled": True}}))
    assert store.names() == [*BUILT_IN, "on"]
    assert store.get("Balanced") == Settings()
    assert store.get("on") == Settings()


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    store = written(tmp_path, json.dumps({str(number): {} for number in range(presets.MAX_PRESETS)}))
    store.save("7", SETTINGS)
    with pytest.raises(PresetError, match="delete one first"):
        store.save("one more", SETTINGS)


def test_a_failed_write_leaves_the_old_file(
    store: PresetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("kept", SETTINGS)

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PresetError, match="No space left"):
        store.save("lost", SETTINGS)
    assert store.names() == [*BUILT_IN, "kept"]
    assert os.listdir(tmp_path / "presets") == ["presets.json"]
