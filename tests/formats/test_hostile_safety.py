"""Hostile files: no time lost, nothing large allocated, nothing unpickled, no damage worse than a refusal."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

from lib_pg.formats import NetworkError, limits, read_network
from tests.formats.hostile_files import DOWN, GOOD, MID, UP, entry, raw, refused, tensors_of, written


def test_many_patterns_cost_no_product(tmp_path: Path) -> None:
    """20,000 patterns on 2,000 layers are read in linear time."""
    pattern = {f"block.{i}.to_q": 1 for i in range(20_000)}
    tensors = {f"unet.a{i}.lora_{part}.weight": torch.ones(1, 1) for i in range(2_000) for part in "AB"}
    path = tmp_path / "cat.safetensors"
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps({"unet.alpha_pattern": pattern})})
    started = time.process_time()
    assert len(read_network(path).layers) == 2_000
    assert time.process_time() - started < 4


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path, target = tmp_path / "cat.safetensors", tmp_path / "exploded"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refused(written(tmp_path, pickle.dumps(Bomb(target), protocol) + bytes(99)), "pickle|damaged")
    torch.save(Bomb(target), path)
    assert zipfile.is_zipfile(path)
    refused(path, "is a zip archive")
    assert not target.exists()


def sparse(path: Path, shapes: dict[str, list[int]]) -> Path:
    """A valid file of zeros that takes no room on the disk."""
    header: dict[str, object] = {}
    end = 0
    for key, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[key] = entry(shape, end, end + size)
        end += size
    path.write_bytes(raw(header))
    os.truncate(path, path.stat().st_size + end)
    return path


@pytest.fixture
def no_tensor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reading any tensor fail, and give what is opened the rest of its methods."""
    opened = safetensors.safe_open

    class Closed:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.handle = opened(*args, **kwargs)

        def __enter__(self) -> Closed:
            self.handle.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self.handle.__exit__(*error)

        def __getattr__(self, name: str) -> object:
            return getattr(self.handle, name)

        def get_tensor(self, key: str) -> Tensor:
            pytest.fail(f"{key} was read before all shapes were checked")

    monkeypatch.setattr("lib_pg.formats.container.safe_open", Closed)


GOOD_SHAPES = {DOWN: [2, 6], UP: [4, 2]}
SPARSE: dict[str, tuple[dict[str, list[int]], str]] = {
    "a late layer is wrong": (
        {**GOOD_SHAPES, "unet.z.lora_A.weight": [1, 1]},
        "layer unet z has no up factor",
    ),
    "one wide tensor": ({DOWN: [2, 2**28], UP: [4, 2]}, "expected at most 65536 features"),
    "far too much in all": (
        {
            f"unet.a{i}.lora_{part}.weight": shape
            for i in range(8)
            for part, shape in (("A", [4096, 65536]), ("B", [65536, 4096]))
        },
        f"its factors need {8 * 2 * 2**30} bytes of memory, at most {limits.FACTOR_BYTES_MAX} are allowed",
    ),
}


@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.usefixtures("no_tensor_read")
def test_shapes_are_checked_before_any_tensor_is_read(tmp_path: Path, case: str) -> None:
    shapes, pattern = SPARSE[case]
    path = sparse(tmp_path / "cat.safetensors", shapes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        refused(path, pattern)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "cat.safetensors"
    path.write_bytes(struct.pack("<Q", limits.HEADER_BYTES_MAX + 1))
    os.truncate(path, limits.HEADER_BYTES_MAX * 2)
    refused(path, f"its header should have {limits.HEADER_BYTES_MAX + 1} bytes")


def never_worse_than_refused(path: Path) -> None:
    try:
        network = read_network(path)
    except NetworkError as error:
        assert str(error).isprintable()
    else:
        tensors = [tensor for delta in network.layers.values() for tensor in tensors_of(delta)]
        assert tensors
        assert all(torch.isfinite(tensor).all() for tensor in tensors)


FUZZ = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
WHOLE = save(GOOD | {MID: torch.ones(2, 2, 3, 3)})


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    never_worse_than_refused(written(tmp_path, content))
    never_worse_than_refused(written(tmp_path, raw(content)))


@FUZZ
@given(place=st.integers(0, len(WHOLE) - 1), patch=st.binary(min_size=1, max_size=8), cut=st.integers(0, 20))
def test_any_damage_to_a_good_file(tmp_path: Path, place: int, patch: bytes, cut: int) -> None:
    damaged = WHOLE[:place] + patch + WHOLE[place + len(patch) :]
    never_worse_than_refused(written(tmp_path, damaged[: len(damaged) - max(cut - 15, 0)]))


NAMES = st.text("._abAB01", max_size=12)
ENDINGS = st.sampled_from(
    [
        ".lora_A.weight",
        ".lora_B.weight",
        ".lora_down.weight",
        "_lora.up.weight",
        ".alpha",
        ".diff",
        ".diff_b",
        ".weight",
        ".on_input",
        ".dora_scale",
        ".hada_w1_a",
        ".hada_w1_b",
        ".hada_w2_a",
        ".hada_w2_b",
        ".lokr_w1",
        ".lokr_w2_a",
        ".lokr_w2_b",
        ".oft_blocks",
        ".rescale",
        ".a1.weight",
        ".a2.weight",
        ".b1.weight",
        ".b2.weight",
        ".w_norm",
        ".ia3_l",
        "",
    ]
)
PREFIXES = st.sampled_from(
    ["lora_unet_", "lora_te2_", "unet.", "text_encoder.", "lycoris_", "base_model.model.", ""]
)
KEYS = st.builds(lambda *parts: "".join(parts), PREFIXES, NAMES, ENDINGS)


@FUZZ
@given(tensors=st.dictionaries(KEYS, st.lists(st.integers(0, 3), max_size=5), max_size=6))
def test_any_names_and_shapes(tmp_path: Path, tensors: dict[str, list[int]]) -> None:
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, tmp_path / "cat.safetensors")
    never_worse_than_refused(tmp_path / "cat.safetensors")
