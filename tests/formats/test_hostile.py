"""Damaged and hostile files: one clear line about what is wrong."""

from __future__ import annotations

import os
import pickle
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from lib_pg.formats import limits, read_network
from lib_pg.formats.errors import listed
from tests.formats.hostile_files import ALPHA, DOWN, GOOD, MID, UP, entry, raw, refused, written


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
    "no tensors": (raw({}), "holds 0 tensors and no network"),
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
        "down factor has type I8, expected F16, BF16, F32, F64, F8_E4M3 or F8_E5M2",
    ),
    "booleans": ({UP: torch.ones(4, 2, dtype=torch.bool)}, "up factor has type BOOL"),
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
        rf"has more than {limits.ADAPTER_METADATA_LENGTH_MAX} characters",
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


def test_too_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_pg.formats.container.TENSORS_MAX", 3)
    assert read_network(written(tmp_path, save(GOOD))).layers
    refused(written(tmp_path, save(GOOD | {"x": torch.ones(1)})), "has 4 tensors, at most 3 are allowed")


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed([*"abcdef"]) == "a, b, c and 3 more"
    assert len(listed(["x" * 10_000])) <= 120
