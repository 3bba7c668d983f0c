"""Networks saved in eight bits: read exactly; their scales, where there are any, are not guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_pg.formats import read_network
from lib_pg.formats.limits import FACTOR_BYTES_MAX
from tests.formats.hostile_files import entry, raw, refused, written

TYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def factors(kind: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "lora_unet_a.lora_down.weight": torch.randn(2, 6, generator=generator).to(kind),
        "lora_unet_a.lora_up.weight": torch.randn(4, 2, generator=generator).to(kind),
        "lora_unet_a.alpha": torch.tensor(3.0).to(kind),
    }


@pytest.mark.parametrize("kind", TYPES)
def test_every_value_is_read_exactly(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = factors(kind)
    save_file(tensors, tmp_path / "cat.safetensors")
    (delta,) = read_network(tmp_path / "cat.safetensors").layers.values()
    down, up, alpha = (each.double() for each in tensors.values())
    torch.testing.assert_close(delta.dense().double(), up @ down * alpha / 2, rtol=1e-6, atol=1e-7)
    assert delta.nbytes == 2 * (down.numel() + up.numel())


@pytest.mark.parametrize("kind", TYPES)
def test_all_there_is_in_eight_bits_fits_what_it_is_read_as(kind: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(kind)
    assert torch.equal(every.half().double().nan_to_num(7), every.double().nan_to_num(7))


def test_other_types_may_stand_beside(tmp_path: Path) -> None:
    tensors = factors(torch.float8_e4m3fn)
    tensors["lora_unet_a.lora_up.weight"] = tensors["lora_unet_a.lora_up.weight"].bfloat16()
    save_file(tensors, tmp_path / "cat.safetensors")
    (delta,) = read_network(tmp_path / "cat.safetensors").layers.values()
    assert delta.down.dtype == delta.up.dtype == torch.float32


@pytest.mark.parametrize("kind", TYPES)
def test_what_is_not_finite_is_refused(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = factors(kind)
    tensors["lora_unet_a.lora_up.weight"] = torch.full((4, 2), float("nan")).to(kind)
    save_file(tensors, tmp_path / "cat.safetensors")
    refused(tmp_path / "cat.safetensors", "its up factor holds values that are not finite")


@pytest.mark.parametrize(
    "name",
    [
        "scaled_fp8",
        "lora_unet_a.lora_down.scale_weight",
        "lora_unet_a.lora_down.weight_scale",
        "lora_unet_a.scale_input",
        "unet.a.comfy_quant",
    ],
)
def test_scales_of_their_own_are_refused_not_left_out(tmp_path: Path, name: str) -> None:
    """The factors alone would be another network."""
    save_file(factors(torch.float8_e4m3fn) | {name: torch.tensor(0.5)}, tmp_path / "cat.safetensors")
    refused(tmp_path / "cat.safetensors", rf"scales of their own \({name}\), which are not read; choose")


def test_eight_bits_count_as_what_they_are_read_as(tmp_path: Path) -> None:
    """The bound holds for memory, not for the file."""
    width, rank = 65_536, 4_096
    layers = FACTOR_BYTES_MAX // (2 * width * rank) + 1
    header, end = {}, 0
    for layer in range(layers):
        header[f"lora_unet_{layer}.lora_down.weight"] = entry(
            [rank, width], end, end + rank * width, "F8_E4M3"
        )
        end += rank * width
        header[f"lora_unet_{layer}.lora_up.weight"] = entry([1, rank], end, end + rank, "F8_E4M3")
        end += rank
    path = written(tmp_path, raw(header))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + end)
    refused(path, f"at most {FACTOR_BYTES_MAX} are allowed")
