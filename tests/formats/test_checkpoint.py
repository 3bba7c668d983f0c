"""Base checkpoints: what differs is found under every naming, and what cannot be a base is said."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, Parameters
from lib_pg.deltas.merge import parameters_of
from lib_pg.formats import NetworkError
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.difference import Difference, Model, difference
from lib_pg.weak_branch.weights import WeakWeights
from tests.checkpoints import open_clip_of, single_file_of
from tests.networks import tiny_text_encoder, tiny_unet
from tests.pipelines import sd_pipeline


def compared(path: Path, component: str, model: nn.Module) -> Difference | None:
    return difference(open_checkpoint(path), "U-Net", Model(component, component, model), parameters_of)


@torch.no_grad()
def base_of(model: nn.Module, found: Difference) -> dict[str, Tensor]:
    """All parameters of the base, those that are equal being the model's own."""
    values: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        parameters: Parameters = parameters_of(module)
        if module in found.deltas:
            parameters = {**parameters, **found.deltas[module].base()}
        values |= {f"{path}.{name}": value for name, value in parameters.items() if value is not None}
    return values


@pytest.mark.parametrize("projection", [False, True])
def test_open_clip_s_names(tmp_path: Path, projection: bool) -> None:
    """SD 2.x, and SDXL's second text encoder, which has a projection that lies the other way round."""
    prefix, component = ("conditioner.embedders.1.", "te2") if projection else ("cond_stage_model.", "te1")
    start, tuned = tiny_text_encoder(projection), tiny_text_encoder(projection)
    tensors = {f"{prefix}model.{name}": value.contiguous() for name, value in open_clip_of(start).items()}
    save_file(tensors, tmp_path / "base.safetensors")
    found = compared(tmp_path / "base.safetensors", component, tuned)
    assert found is not None
    base = base_of(tuned, found)
    assert base.keys() == dict(start.named_parameters()).keys()
    assert all(torch.equal(base[name], value) for name, value in start.named_parameters())


def test_a_bias_that_a_network_has_added_is_none_of_the_base_s(tmp_path: Path) -> None:
    start = nn.Sequential(nn.Linear(7, 8, bias=False))
    save_file({"model.diffusion_model.0.weight": start[0].weight.detach() + 1}, tmp_path / "base.safetensors")
    start[0].bias = nn.Parameter(torch.ones(8))

    def own(module: nn.Module) -> Parameters:
        return {**parameters_of(module), "bias": None}

    model = Model("unet", "unet", start, "model.diffusion_model.")
    found = difference(open_checkpoint(tmp_path / "base.safetensors"), "U-Net", model, own)
    assert found is not None
    assert list(found.deltas[start[0]].base()) == ["weight"]
    with pytest.raises(NetworkError, match=r"not model\.diffusion_model\.0\.bias"):
        difference(open_checkpoint(tmp_path / "base.safetensors"), "U-Net", model, parameters_of)


def test_one_moved_value_is_found_at_any_place(tmp_path: Path) -> None:
    start = nn.Sequential(nn.Linear(700, 800), nn.Linear(700, 800))
    tensors = {f"model.diffusion_model.{name}": value.detach() for name, value in start.named_parameters()}
    save_file(tensors, tmp_path / "base.safetensors")
    with torch.no_grad():
        start[0].weight[-1, -1] += 1
    model = Model("unet", "unet", start, "model.diffusion_model.")
    found = difference(open_checkpoint(tmp_path / "base.safetensors"), "U-Net", model, parameters_of)
    assert found is not None
    assert found.deltas.keys() == {start[0]}
    assert found.equal == 1


@pytest.mark.parametrize("at", [0, 280_000, -1])
@pytest.mark.parametrize("has_network", [False, True])
def test_one_value_of_a_moved_layer_that_is_not_finite_is_refused(
    tmp_path: Path, at: int, has_network: bool
) -> None:
    """Before the run among the first values, or else when it is read, by whichever thread."""
    start = nn.Sequential(nn.Linear(700, 800))
    tensors = {f"model.diffusion_model.{name}": v.detach().clone() for name, v in start.named_parameters()}
    tensors["model.diffusion_model.0.weight"] += 1
    tensors["model.diffusion_model.0.weight"].view(-1)[at] = float("inf")
    save_file(tensors, tmp_path / "base.safetensors")
    model = Model("unet", "unet", start, "model.diffusion_model.")

    def weak_weights() -> None:
        found = difference(open_checkpoint(tmp_path / "base.safetensors"), "U-Net", model, parameters_of)
        assert found is not None and at != 0, "the first values are read at once"
        tuned = found.deltas[start[0]]
        if has_network:
            tuned.contribution(tuned.base(), 1.0)
        else:
            WeakWeights(start[0], [(0, tuned)]).at([ActiveNetwork("tuned", found.deltas)], [0.3])

    with pytest.raises(NetworkError, match=r"0\.weight holds values that are not finite"):
        weak_weights()


@pytest.mark.parametrize("of_file", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("of_model", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_weak_weights_are_made_from_the_file_in_any_type_and_order(
    tmp_path: Path, of_file: torch.dtype, of_model: torch.dtype, order: torch.memory_format
) -> None:
    """Larger than what is read at once and than what one thread does."""
    start, tuned = nn.Conv2d(512, 129, 3), nn.Conv2d(512, 129, 3).to(of_model, memory_format=order)
    tensors = {f"model.diffusion_model.0.{name}": v.to(of_file) for name, v in start.state_dict().items()}
    save_file(tensors, tmp_path / "base.safetensors")
    model = Model("unet", "unet", nn.Sequential(tuned), "model.diffusion_model.")
    found = difference(open_checkpoint(tmp_path / "base.safetensors"), "U-Net", model, parameters_of)
    assert found is not None
    network = ActiveNetwork("tuned", found.deltas)
    made = WeakWeights(tuned, [(0, found.deltas[tuned])]).at([network], [0.3])
    assert made.keys() == {"weight", "bias"}
    for name, value in made.items():
        assert value is not None
        live = tuned._parameters[name]
        assert live is not None
        assert (value.dtype, value.stride()) == (live.dtype, live.stride())
        base = tensors[f"model.diffusion_model.0.{name}"].float()
        assert torch.equal(value, torch.lerp(base, live.float(), 0.3).to(of_model))


def test_a_host_s_wrappers_are_looked_through(tmp_path: Path) -> None:
    """WebUIs put one around the words' embedding, for textual inversion."""
    pipeline = sd_pipeline()
    path = single_file_of(pipeline, tmp_path / "base.safetensors")
    embeddings, wrapper = pipeline.text_encoder.embeddings, nn.Module()
    wrapper.add_module("wrapped", embeddings.token_embedding)
    embeddings.token_embedding = wrapper
    found = compared(path, "te1", pipeline.text_encoder)
    assert found is not None
    assert not found.deltas


def test_weights_in_parts_and_in_half_precision_beside_full(tmp_path: Path) -> None:
    unet, folder = tiny_unet(), tmp_path / "unet"
    folder.mkdir()
    tensors = {name: value.detach().clone() for name, value in unet.named_parameters()}
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = folder / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, file)
    save_file(
        {name: value.half() for name, value in tensors.items()},
        folder / "diffusion_pytorch_model.fp16.safetensors",
    )
    found = compared(tmp_path, "unet", unet)
    assert found is not None
    assert not found.deltas


def change(**changes: Callable[[Tensor], Tensor] | None) -> Callable[[Path], None]:
    """Rewrite tensors of a file whose names end as the arguments do (with __ for dots); None drops them."""

    def rewrite(path: Path) -> None:
        tensors = load_file(path)
        for ending, new in changes.items():
            for key in [key for key in tensors if key.endswith(ending.replace("__", "."))]:
                value = tensors.pop(key)
                if new is not None:
                    tensors[key] = new(value).contiguous()
        save_file(tensors, path)

    return rewrite


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncated, "is not a valid safetensors file"),
    "a pickle, renamed": (
        lambda path: path.write_bytes(pickle.dumps({1: 2}) + bytes(99)),
        "is a Python pickle",
    ),
    "a zip, renamed": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "is a zip archive"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "gone": (os.remove, "there is no such file"),
    "NaN": (
        change(out__2__weight=lambda value: value * torch.nan),
        "out.2.weight holds values that are not finite",
    ),
    "infinity": (change(out__2__bias=lambda value: value / 0), "out.2.bias holds values that are not finite"),
    "another shape": (
        change(out__2__weight=lambda value: value[:, :3]),
        r"out.2.weight has the shape .* it is for another architecture",
    ),
    "wide": (change(out__2__bias=lambda value: value.expand(4, 4)), "out.2.bias has the shape"),
    "half of the layers": (change(weight=None), r"holds \d+ of \d+ parameters of the loaded model's U-Net"),
    "one tensor missing": (change(out__2__bias=None), r"\(not model.diffusion_model.out.2.bias\)"),
    "float8": (
        change(out__2__weight=lambda value: value.to(torch.float8_e4m3fn)),
        "is stored as F8_E4M3, expected",
    ),
    "integers": (change(out__2__weight=lambda value: value.to(torch.int8)), "is stored as I8, expected"),
    "no model": (lambda path: save_file({"x": torch.zeros(1)}, path), "holds 0 of"),
    "an inpainting model": (
        change(input_blocks__0__0__weight=lambda value: torch.cat([value, value, value[:, :1]], 1)),
        "input_blocks.0.0.weight has the shape .16, 9, 3, 3.",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_a_base_is_said_in_one_sentence(tmp_path: Path, case: str) -> None:
    damage, pattern = HOSTILE[case]
    pipeline = sd_pipeline()
    path = single_file_of(pipeline, tmp_path / "base.safetensors")
    damage(path)
    with pytest.raises(NetworkError, match=pattern) as caught:
        compared(path, "unet", pipeline.unet)
    message = str(caught.value)
    assert message.startswith("base")
    assert message.isprintable()
    assert len(message) < 400


def test_a_folder_without_a_unet_is_none(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"is a folder without unet/diffusion_pytorch_model\.safetensors"):
        open_checkpoint(tmp_path)


def test_an_inpainting_model_from_one_that_is_not(tmp_path: Path) -> None:
    """To its base, mask and masked picture add nothing."""
    path = single_file_of(sd_pipeline(), tmp_path / "base.safetensors")
    unet = sd_pipeline().unet
    first = unet.conv_in
    unet.conv_in = nn.Conv2d(9, first.out_channels, 3, padding=1)
    found = compared(path, "unet", unet)
    assert found is not None
    base = found.deltas[unet.conv_in].base()["weight"]
    assert torch.equal(base[:, :4], first.weight)
    assert not base[:, 4:].any()


def test_a_file_that_changes_while_it_is_in_use_is_not_read(tmp_path: Path) -> None:
    pipeline = sd_pipeline()
    path = single_file_of(pipeline, tmp_path / "base.safetensors")
    with torch.no_grad():
        pipeline.unet.conv_in.bias.add_(1)
    found = compared(path, "unet", pipeline.unet)
    assert found is not None
    os.utime(path, ns=(1, 1))
    with pytest.raises(NetworkError, match="the file was changed while it was in use"):
        found.deltas[pipeline.unet.conv_in].base()
