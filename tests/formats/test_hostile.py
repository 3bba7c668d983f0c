"""Damaged and hostile files: one clear line, nothing large allocated, nothing unpickled."""

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
from lib_pg.formats.errors import listed

DOWN, UP, ALPHA, MID = (
    f"lora_unet_a.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha", "lora_mid.weight")
)
GOOD = {DOWN: torch.ones(2, 6), UP: torch.ones(4, 2), ALPHA: torch.tensor(1.0)}


def refused(path: Path, pattern: str) -> str:
    """The message of the refusal, which is one line that names the file and says what to do."""
    with pytest.raises(NetworkError, match=pattern) as caught:
        read_network(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(path.stem[:100])
    assert "; " in message
    assert len(message) < 800
    return message


def written(folder: Path, content: bytes) -> Path:
    path = folder / "cat.safetensors"
    path.write_bytes(content)
    return path


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert len(read_network(written(tmp_path, save(GOOD))).layers) == 1


BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"1234567", "is damaged or no safetensors file"),
    "length alone": (struct.pack("<Q", 2), "should have 2 bytes, but the file has 8"),
    "header beyond the file": (struct.pack("<Q", 100) + b"{}", "should have 100 bytes, but the file has 10"),
    "header of 2**63": (
        struct.pack("<Q", 2**63) + b"{}" * 99,
        rf"at most {limits.HEADER_BYTES_MAX} are allowed",
    ),
    "truncated data": (save(GOOD)[:-4], "is not a valid safetensors file"),
    "trailing data": (save(GOOD) + b"1234", "is not a valid safetensors file"),
    "no JSON": (raw(b"x" * 40), "is not a valid safetensors file"),
    "no UTF-8": (raw(b"\xff\xfe" * 40), "is not a valid safetensors file"),
    "deep JSON": (raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "is not a valid safetensors file"),
    "deep metadata": (
        raw(b'{"__metadata__":' + b'{"a":' * 50_000 + b"}" * 50_001),
        "is not a valid safetensors",
    ),
    "overflowing shape": (raw({DOWN: entry([2**62, 8], 0, 8)}, bytes(8)), "is not a valid safetensors file"),
    "huge shape": (
        raw({DOWN: entry([10**6, 10**6], 0, 4 * 10**12)}, bytes(8)),
        "is not a valid safetensors file",
    ),
    "negative shape": (raw({DOWN: entry([-1, 8], 0, 8)}, bytes(8)), "is not a valid safetensors file"),
    "overlap": (
        raw({DOWN: entry([2, 1], 0, 8), UP: entry([1, 2], 4, 12)}, bytes(12)),
        "is not a valid safetensors",
    ),
    "unknown type": (raw({DOWN: entry([2, 1], 0, 8, "F33")}, bytes(8)), "is not a valid safetensors file"),
    "pickle": (pickle.dumps({"a": 1}) + bytes(99), "is a Python pickle"),
    "zip": (b"PK\x03\x04" + bytes(99), "is a zip archive"),
    "web page": (b"<!DOCTYPE html><html></html>", "is a web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid x", "is a Git LFS pointer"),
    "no tensors": (raw({}), "holds 0 tensors and no LoRA"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes(tmp_path: Path, case: str) -> None:
    content, pattern = BYTES[case]
    refused(written(tmp_path, content), pattern)


TENSORS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "no up": ({UP: None}, "layer unet a has no up factor"),
    "no down": ({DOWN: None}, "layer unet a has no down factor"),
    "mid alone": ({UP: None, DOWN: None, MID: torch.ones(2, 2, 3, 3)}, "has no down factor"),
    "ranks differ": (
        {UP: torch.ones(4, 3)},
        r"up \(4, 3\) does not fit down \(2, 6\), expected up \(out, 2\)",
    ),
    "up is large": ({UP: torch.ones(4, 2, 3, 3)}, r"up \(4, 2, 3, 3\) does not fit"),
    "rank zero": (
        {UP: torch.ones(4, 0), DOWN: torch.ones(0, 6)},
        "is empty, shape .* expected rank 1 to 4096",
    ),
    "no features": ({DOWN: torch.ones(2, 0)}, "is empty"),
    "rank too high": (
        {UP: torch.ones(1, 4097), DOWN: torch.ones(4097, 1)},
        "has rank 4097, expected 1 to 4096",
    ),
    "too wide": ({DOWN: torch.ones(2, 65_537)}, r"has shape \(2, 65537\), expected at most 65536 features"),
    "wide kernel": ({DOWN: torch.ones(2, 1, 1, 17)}, "a kernel of at most 16 x 16"),
    "three dimensions": ({DOWN: torch.ones(2, 6, 1)}, r"has shape \(2, 6, 1\), expected 2 or 4 dimensions"),
    "no dimensions": ({DOWN: torch.tensor(1.0)}, r"has shape \(\), expected 2 or 4"),
    "mid not square": ({MID: torch.ones(2, 3, 3, 3)}, r"mid \(2, 3, 3, 3\) does not fit down"),
    "mid flat": ({MID: torch.ones(2, 2)}, r"mid \(2, 2\) does not fit down"),
    "mid of large down": ({MID: torch.ones(2, 2, 3, 3), DOWN: torch.ones(2, 6, 3, 3)}, "does not fit down"),
    "integers": (
        {DOWN: torch.ones(2, 6, dtype=torch.int8)},
        "down factor has type I8, expected F16, BF16, F32 or F64",
    ),
    "booleans": ({UP: torch.ones(4, 2, dtype=torch.bool)}, "up factor has type BOOL"),
    "float8": ({DOWN: torch.ones(2, 6).to(torch.float8_e4m3fn)}, "down factor has type F8_E4M3"),
    "NaN": (
        {DOWN: torch.tensor([[1.0] * 6, [1.0] * 5 + [float("nan")]])},
        "its down factor holds values that are not finite",
    ),
    "infinity": (
        {UP: torch.tensor([[1.0, 1.0]] * 3 + [[float("-inf"), 1.0]])},
        "its up factor holds values that are not finite",
    ),
    "float64 beyond float32": (
        {UP: torch.full((4, 2), 1e300, dtype=torch.float64)},
        "up factor holds .* not finite",
    ),
    "NaN in mid": ({MID: torch.full((2, 2, 3, 3), float("nan"))}, "its mid factor holds values"),
    "fold overflows": (
        {
            MID: torch.full((2, 2, 3, 3), 6e4).half(),
            DOWN: torch.full((2, 6), 6e4).half(),
            UP: torch.ones(4, 2).half(),
        },
        "product of mid and down factor holds values that are not finite",
    ),
    "alpha NaN": ({ALPHA: torch.tensor(float("nan"))}, "has alpha nan, expected -65504 to 65504"),
    "alpha infinite": ({ALPHA: torch.tensor([float("inf")])}, "has alpha inf"),
    "alpha huge": ({ALPHA: torch.tensor(1e30)}, r"has alpha 1e\+30, expected -65504 to 65504"),
    "alpha of two": ({ALPHA: torch.ones(2)}, r"its alpha has shape \(2,\) and type F32, expected one number"),
    "alpha of none": ({ALPHA: torch.ones(0)}, "expected one number"),
    "alpha boolean": ({ALPHA: torch.tensor(True)}, "type BOOL, expected one number"),
    "two namings": (
        {"unet.a.lora_A.weight": torch.ones(2, 6), "unet.a.lora_B.weight": torch.ones(4, 2)},
        "names the same tensor twice, as .*(lora_unet_a.lora_|unet.a.lora_)",
    ),
    "long name": ({"x" * 513: torch.ones(1)}, "a tensor's name has 513 characters, at most 512"),
    "evil name": ({f"unet.\n\x1b[31m{'y' * 400}.lora_A.weight": torch.ones(1, 1)}, "has no up factor"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(tmp_path: Path, case: str) -> None:
    changes, pattern = TENSORS[case]
    tensors = {key: value for key, value in (GOOD | changes).items() if value is not None}
    save_file(tensors, tmp_path / "cat.safetensors")
    refused(tmp_path / "cat.safetensors", pattern)


ADAPTERS = {
    "no JSON": ("{", "is not valid JSON"),
    "an array": ("[]", "is a JSON list, expected an object"),
    "deep": ("[" * 200_000, "is not valid JSON"),
    "deep and closed": ('{"a":' * 100_000 + "1" + "}" * 100_000, "is not valid JSON"),
    "long": (
        " " * (limits.ADAPTER_METADATA_LENGTH_MAX + 1),
        rf"at most {limits.ADAPTER_METADATA_LENGTH_MAX} are allowed",
    ),
    "alpha text": ('{"unet.lora_alpha": "8"}', "has alpha 8, expected a number from -65504 to 65504"),
    "alpha true": ('{"unet.lora_alpha": true}', "has alpha True"),
    "alpha NaN": ('{"unet.lora_alpha": NaN}', "has alpha nan"),
    "alpha of a million digits": (f'{{"unet.lora_alpha": {"9" * 1_000_000}}}', "has alpha inf"),
    "pattern a list": (
        '{"unet.alpha_pattern": [1]}',
        "has an alpha_pattern of type list, expected an object",
    ),
    "pattern's alpha": ('{"unet.alpha_pattern": {"a": null}}', "has alpha None"),
    "regular expression": (
        '{"unet.alpha_pattern": {"(a+)+b": 1}}',
        r"by a regular expression \(\(a\+\)\+b\)",
    ),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_adapter_metadata(tmp_path: Path, case: str) -> None:
    text, pattern = ADAPTERS[case]
    save_file(GOOD, tmp_path / "cat.safetensors", {"lora_adapter_metadata": text})
    started = time.process_time()
    refused(tmp_path / "cat.safetensors", pattern)
    assert time.process_time() - started < 2


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


def test_paths(tmp_path: Path) -> None:
    refused(tmp_path / "missing.safetensors", "there is no such file in ")
    refused(tmp_path, "is not a file")
    os.mkfifo(tmp_path / "pipe.safetensors")
    refused(tmp_path / "pipe.safetensors", "is not a file")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    refused(tmp_path / "loop.safetensors", "no such file|cannot be read")
    refused(tmp_path / ("x" * 300), "cannot be read|no such file")
    save_file(GOOD, tmp_path / "cat.safetensors")
    (tmp_path / "link.safetensors").symlink_to("cat.safetensors")
    assert read_network(str(tmp_path / "link.safetensors")).name == "link"


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


def test_too_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_pg.formats.container.TENSORS_MAX", 3)
    assert read_network(written(tmp_path, save(GOOD))).layers
    refused(written(tmp_path, save(GOOD | {"x": torch.ones(1)})), "has 4 tensors, at most 3 are allowed")


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed([*"abcdef"]) == "a, b, c and 3 more"
    assert len(listed(["x" * 10_000])) <= 120


def never_worse_than_refused(path: Path) -> None:
    try:
        network = read_network(path)
    except NetworkError as error:
        assert str(error).isprintable()
    else:
        assert all(torch.isfinite(delta.dense()).all() for delta in network.layers.values())


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
        ".weight",
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
