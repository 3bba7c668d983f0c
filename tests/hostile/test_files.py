"""A share of the hostile files, and the faults that they have found, each by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_pg.formats import NetworkError, limits, read_network
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.container import starts_of
from tests.formats.hostile_files import entry, raw, refused
from tests.formats.test_hostile_safety import sparse
from tests.hostile.files import GUIDED, REFUSED
from tests.hostile.runs import here

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds on memory are those of Linux")


@pytest.mark.parametrize(("kind", "count"), [("networks", 60), ("checkpoints", 12)])
def test_files_are_refused_or_used_and_nothing_else(kind: str, count: int) -> None:
    counts = here(kind, count, 0)
    assert sum(counts.values()) == count
    assert counts[REFUSED] and counts[GUIDED]


HUGE = 3e38
OVERFLOWS: dict[str, tuple[dict[str, Tensor], str]] = {
    "OFT": ({"oft_blocks": torch.tensor([[[0.0, HUGE], [-HUGE, 0.0]]])}, "rotations of oft_blocks holds"),
    "OFT without an inverse": (
        {"oft_blocks": torch.tensor([[[0.0, 1, 2], [0, 0, 4], [0, 0, 0]]]) * 2.0**80},
        "make no rotations|rotations of oft_blocks holds",
    ),
    "GLoRA with a core": (
        {
            "a1.weight": torch.ones(6, 1),
            "a2.weight": torch.ones(1, 6),
            "b1.weight": torch.ones(4, 1),
            "b2.weight": torch.full((1, 6, 1, 1), 1e30),
            "bm.weight": torch.full((1, 1, 3, 3), 1e30),
        },
        "product of bm and b2 holds",
    ),
    "PEFT (IA)3": ({"ia3_l": torch.full((4, 1), HUGE), "scale": torch.tensor(6e4)}, "product of ia3_l and"),
    "(IA)3": (
        {"weight": torch.full((4,), 6e4).half(), "on_input": torch.tensor(0), "scale": torch.tensor(6e4)},
        "product of weight and scale holds",
    ),
    "a LoRA's bias": (
        {
            "lora_down.weight": torch.ones(2, 6),
            "lora_up.weight": torch.ones(4, 2),
            "lora_up.bias": torch.full((4,), HUGE),
            "scale": torch.tensor(6e4),
        },
        "product of lora_bias and scale holds",
    ),
}


@pytest.mark.parametrize("case", OVERFLOWS)
def test_what_finite_tensors_make_is_finite_too(tmp_path: Path, case: str) -> None:
    tensors, pattern = OVERFLOWS[case]
    path = tmp_path / "cat.safetensors"
    save_file({f"lora_unet_a.{name}": value for name, value in tensors.items()}, path)
    refused(path, pattern)


def test_what_a_core_stands_for_is_counted_before_it_is_made(tmp_path: Path) -> None:
    """Each layer of 0.5 MB stands for 64 MiB; the last ones are too many."""
    shapes: dict[str, list[int]] = {}
    header: dict[str, object] = {}
    end, count = 0, limits.FACTOR_BYTES_MAX // 2**26 + 1
    for layer in range(count):
        shapes = {
            "a1": [65536, 1],
            "a2": [1, 65536],
            "b1": [4, 1],
            "b2": [1, 65536, 1, 1],
            "bm": [1, 1, 16, 16],
        }
        for part, shape in shapes.items():
            size = 2 * torch.Size(shape).numel()
            header[f"lora_unet_a{layer}.{part}.weight"] = entry(shape, end, end + size, "F16")
            end += size
    path = tmp_path / "cat.safetensors"
    path.write_bytes(raw(header, bytes(end)))
    refused(path, f"its factors need [0-9]+ bytes of memory, at most {limits.FACTOR_BYTES_MAX} are allowed")


def test_the_search_for_endings_takes_no_square_of_a_name_s_length(tmp_path: Path) -> None:
    """What is told from the end alone does not depend on what stands far before it."""
    tensors = {("a" * 100 + ".oft_R" * 60 + ".")[:500]: torch.ones(1)}
    save_file(tensors, tmp_path / "cat.safetensors")
    refused(tmp_path / "cat.safetensors", "no network among them")
    assert limits.ENDING_LENGTH_MAX < limits.KEY_LENGTH_MAX


@pytest.mark.parametrize(
    "header",
    [{}, {"a": {}}, {"a": {"data_offsets": []}}, {"a": {"data_offsets": [1e400]}}, [], {"a": 3}, b"[" * 9999],
    ids=str,
)
def test_a_checkpoint_that_changes_between_two_readings_is_refused(tmp_path: Path, header: object) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(raw(header))
    with pytest.raises(NetworkError, match="was changed while it was read; try again"):
        starts_of(path, ["a"])


def test_a_sparse_checkpoint_is_opened_by_its_header_alone(tmp_path: Path) -> None:
    path = sparse(tmp_path / "base.safetensors", {"model.diffusion_model.a.weight": [2**16, 2**16]})
    assert open_checkpoint(path).single
    with pytest.raises(NetworkError, match="no network among them"):
        read_network(path)
