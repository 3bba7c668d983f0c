"""Files of every kind: what they may be called, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_pg.deltas import Delta, LowRank
from lib_pg.deltas.base import ShapeError
from lib_pg.formats import NetworkError, match, read_network
from tests.formats.hostile_files import refused
from tests.networks import tiny_unet
from tests.pipelines import relative_error

LINEAR = (4, 6)
CONV = (4, 6, 3, 3)


def written(folder: Path, tensors: dict[str, Tensor], stem: str = "lora_unet_a") -> Path:
    path = folder / "cat.safetensors"
    save_file({f"{stem}.{name}": value.contiguous() for name, value in tensors.items()}, path)
    return path


def read(folder: Path, tensors: dict[str, Tensor]) -> Delta:
    (delta,) = read_network(written(folder, tensors)).layers.values()
    return delta


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LORA = {"lora_down.weight": noise(2, 6), "lora_up.weight": noise(4, 2)}
LOHA = {
    "hada_w1_a": noise(4, 2),
    "hada_w1_b": noise(2, 6),
    "hada_w2_a": noise(4, 3),
    "hada_w2_b": noise(3, 6),
}
TUCKER = {
    **{f"hada_w{i}_a": noise(2, 4) for i in (1, 2)},
    **{f"hada_w{i}_b": noise(2, 6) for i in (1, 2)},
    **{f"hada_t{i}": noise(2, 2, 3, 3) for i in (1, 2)},
}
LOKR = {"lokr_w1": noise(2, 2), "lokr_w2_a": noise(2, 1), "lokr_w2_b": noise(1, 3)}
GLORA = {
    "a1.weight": noise(6, 2),
    "a2.weight": noise(2, 6),
    "b1.weight": noise(4, 2),
    "b2.weight": noise(2, 6),
}
IA3 = {"weight": noise(4), "on_input": torch.tensor(0)}
OFT = {"oft_blocks": noise(2, 2, 2), "alpha": torch.tensor(0.0)}
BOFT = {"oft_blocks": noise(1, 2, 2, 2)}
NAN, HUGE = torch.tensor(float("nan")), 65_537

HOSTILE: dict[str, tuple[dict[str, Tensor], dict[str, Tensor | None], str]] = {
    "LoHa without a partner": (LOHA, {"hada_w2_b": None}, "has no hada_w2_b factor"),
    "LoHa of other ranks": (LOHA, {"hada_w1_b": noise(3, 6)}, "hada_w1_a .* does not fit hada_w1_b"),
    "LoHa of two shapes": (LOHA, {"hada_w2_b": noise(3, 7)}, "two products have the shapes"),
    "LoHa with half a core": (TUCKER, {"hada_t2": None}, "has one of hada_t1 and hada_t2"),
    "LoHa with a wrong core": (TUCKER, {"hada_t2": noise(3, 2, 3, 3)}, "its hada_t2 has shape"),
    "LoHa with NaN": (LOHA, {"hada_w1_a": noise(4, 2) * NAN}, "hada_w1_a factor holds .* not finite"),
    "LoHa of rank 4097": (LOHA, {"hada_w1_b": noise(4097, 6), "hada_w1_a": noise(4, 4097)}, "has rank 4097"),
    "LoKr without w2": (LOKR, {"lokr_w2_a": None}, "has lokr_w2_b, expected lokr_w2"),
    "LoKr with everything": (LOKR, {"lokr_w2": noise(2, 3)}, "has lokr_w2 and lokr_w2_a and lokr_w2_b"),
    "LoKr without w1": (LOKR, {"lokr_w1": None}, "has no lokr_w1, expected"),
    "LoKr of other ranks": (LOKR, {"lokr_w2_b": noise(2, 3)}, "does not fit"),
    "LoKr of a huge layer": (
        LOKR,
        {"lokr_w1": noise(300, 2), "lokr_w2_a": noise(300, 1)},
        "stand for a weight of 90000 x 6, expected at most 65536 features",
    ),
    "LoKr with a lone core": (
        {"lokr_w1": noise(2, 2), "lokr_w2": noise(2, 3)},
        {"lokr_t2": noise(1, 1, 3, 3)},
        "has a lokr_t2 but no lokr_w2_a",
    ),
    "LoKr with a first core": (LOKR, {"lokr_t1": noise(1, 1, 3, 3)}, "has a lokr_t1"),
    "GLoRA without a partner": (GLORA, {"b2.weight": None}, "has no b2 factor"),
    "GLoRA of other widths": (GLORA, {"a1.weight": noise(7, 2)}, "does not fit"),
    "GLoRA of other ranks": (GLORA, {"b1.weight": noise(4, 3)}, "does not fit|expected"),
    "GLoRA with a kernel within": (GLORA, {"a2.weight": noise(2, 6, 3, 3)}, "a1 and a2 have kernels"),
    "(IA)3 without its side": (IA3, {"on_input": None}, "has no on_input"),
    "(IA)3 without its vector": (IA3, {"weight": None}, "has no weight"),
    "(IA)3 of a matrix": (IA3, {"weight": noise(4, 4)}, "its weight has shape .* expected one vector"),
    "(IA)3 too long": (IA3, {"weight": noise(HUGE)}, "expected one vector of 1 to 65536"),
    "OFT of oblong blocks": (OFT, {"oft_blocks": noise(2, 2, 3)}, "its oft_blocks have shape"),
    "OFT of a matrix": (OFT, {"oft_blocks": noise(2, 2)}, "its oft_blocks have shape"),
    "OFT of nothing": (OFT, {"oft_blocks": noise(0, 2, 2)}, "its oft_blocks have shape"),
    "OFT of many outputs": (OFT, {"oft_blocks": noise(HUGE, 1, 1)}, "expected at most 65536 outputs"),
    "OFT with another rescale": (OFT, {"rescale": noise(5, 1)}, "its rescale .* expected 4 lengths"),
    "OFT twice": (OFT, {"oft_diag": noise(2, 2, 2)}, "oft_blocks and oft_diag"),
    "OFT with NaN": (OFT, {"oft_blocks": noise(2, 2, 2) * NAN}, "oft_blocks factor holds .* not finite"),
    "BOFT of odd blocks": (BOFT, {"oft_blocks": noise(1, 2, 3, 3)}, "stages do not divide"),
    "BOFT of too many stages": (BOFT, {"oft_blocks": noise(9, 2, 2, 2)}, "9 stages do not divide 4 outputs"),
    "a rescale alone": ({"rescale": noise(4)}, {}, "has oft_blocks and oft_diag or neither"),
    "two differences": ({"diff": noise(4, 6)}, {"set_weight": noise(4, 6)}, "expected one of them"),
    "a difference of three dimensions": ({"diff": noise(4, 6, 3)}, {}, "expected 2 or 4 dimensions"),
    "a difference of bytes": ({"diff": noise(4, 6).to(torch.int8)}, {}, "has type I8, expected F16"),
    "a norm of a matrix": ({"w_norm": noise(4, 4)}, {}, "its w_norm has shape"),
    "a bias of a matrix": ({**LORA, "diff_b": noise(4, 4)}, {}, "its diff_b has shape"),
    "two biases": ({**LORA, "diff_b": noise(4)}, {"set_bias": noise(4)}, "expected one of them"),
    "a LoRA's bias alone": ({"lora_up.bias": noise(4)}, {}, "a bias of a LoRA, but no LoRA"),
    "lengths alone": ({"dora_scale": noise(4, 1)}, {}, "lengths of a DoRA, but no other factors"),
    "lengths of a matrix": (LORA, {"dora_scale": noise(4, 6)}, "its dora_scale has shape"),
    "lengths with NaN": (LORA, {"dora_scale": noise(4, 1) * NAN}, "dora_scale factor holds"),
    "two kinds": (LORA, LOHA, r"has tensors of two kinds, LoRA \(down\) and LoHa \(hada_w1_a\)"),
    "a scalar of two": (LORA, {"scalar": noise(2)}, "its scalar has shape .* expected one number"),
    "a scale of NaN": (LORA, {"scale": NAN}, "has scale nan, expected -65504 to 65504"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_variants_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    good, changes, pattern = HOSTILE[case]
    tensors = {name: value for name, value in (good | changes).items() if value is not None}
    refused(written(tmp_path, tensors), f"layer unet a .*{pattern}|layer unet a {pattern}")


MISFITS = {
    "LoHa": (LOHA, (4, 7)),
    "LoHa, Tucker": (TUCKER, (4, 6)),
    "LoKr": (LOKR, (4, 7)),
    "LoKr of other outputs": (LOKR, (5, 6)),
    "LoKr on a kernel": (LOKR, CONV),
    "GLoRA": (GLORA, (4, 7)),
    "(IA)3": (IA3, (5, 6)),
    "OFT": (OFT, (5, 6)),
    "BOFT": (BOFT, (8, 6)),
    "full": ({"diff": noise(4, 6)}, (6, 4)),
    "norm": ({"w_norm": noise(4)}, LINEAR),
    "bias": ({"diff_b": noise(5)}, LINEAR),
    "DoRA": ({**LORA, "dora_scale": noise(6, 1)}, LINEAR),
    "a LoRA on a norm": (LORA, (4,)),
    "(IA)3 on a norm": (IA3, (4,)),
    "OFT on a norm": (OFT, (4,)),
    "DoRA on a norm": ({**LORA, "dora_scale": noise(4, 1)}, (4,)),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_layer_of_another_shape_is_named(tmp_path: Path, case: str) -> None:
    tensors, shape = MISFITS[case]
    with pytest.raises(ShapeError, match=r"the model's layer has \(") as caught:
        read(tmp_path, tensors).fitted(shape)
    assert str(shape) in str(caught.value)


def test_a_vector_that_fits_both_sides_is_not_guessed(tmp_path: Path) -> None:
    delta = read(tmp_path, {"ia3_l": noise(1, 6, 1, 1)})
    assert delta.fitted(CONV).fitted(CONV).by_input
    with pytest.raises(ShapeError, match="fits the inputs and the outputs"):
        delta.fitted((6, 6, 3, 3))


def test_every_layer_of_a_model_can_be_changed(tmp_path: Path) -> None:
    """Convolutions, linear layers, both norms: whatever has a weight."""
    unet, tensors = tiny_unet(), {}
    layers = {
        path: layer for path, layer in unet.named_modules() if layer._parameters.get("weight") is not None
    }
    assert {type(layer) for layer in layers.values()} == {nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm}
    for path, layer in layers.items():
        stem = f"lora_unet_{path.replace('.', '_')}"
        tensors[f"{stem}.diff"] = torch.ones_like(layer.weight)
        if layer.bias is not None:
            tensors[f"{stem}.diff_b"] = torch.ones_like(layer.bias)
    save_file(tensors, tmp_path / "cat.safetensors")
    found = match(read_network(tmp_path / "cat.safetensors"), {"unet": unet})
    assert found.deltas["unet"].keys() == set(layers.values())
    assert not found.unmatched


def dense(delta: Delta, shape: tuple[int, ...] = LINEAR) -> Tensor:
    return delta.fitted(shape).contribution({"weight": noise(*shape)}, 1.0)["weight"]


def test_numbers_of_a_layer(tmp_path: Path) -> None:
    """alpha / rank; a scale takes its place; a learned scalar comes on top."""
    plain = dense(read(tmp_path, LORA))
    for numbers, factor in (
        ({"alpha": 3.0}, 1.5),
        ({"alpha": 3.0, "scale": 0.25}, 0.25),
        ({"scalar": 0.5}, 0.5),
        ({"alpha": 3.0, "scalar": 0.5}, 0.75),
    ):
        found = read(tmp_path, LORA | {name: torch.tensor(value) for name, value in numbers.items()})
        torch.testing.assert_close(dense(found), plain * factor)


def test_glora_of_lycoris_first_names(tmp_path: Path) -> None:
    """Both halves had their names the other way round, also where the layer is square."""
    new = {"a1": noise(6, 2), "a2": noise(2, 6), "b1": noise(6, 2), "b2": noise(2, 6)}
    old = {"a1": new["a2"], "a2": new["a1"], "b1": new["b2"], "b2": new["b1"]}
    results = [
        dense(read(tmp_path, {f"{name}.weight": value for name, value in names.items()}), (6, 6))
        for names in (new, old)
    ]
    assert torch.equal(*results)
    weight = noise(6, 6)
    torch.testing.assert_close(results[0], weight @ new["a1"] @ new["a2"] + new["b1"] @ new["b2"])


def test_oft_of_lycoris_first_version_holds_rotations(tmp_path: Path) -> None:
    blocks = noise(2, 2, 2)
    expected = torch.block_diag(*blocks).t() @ noise(4, 6) - noise(4, 6)
    torch.testing.assert_close(dense(read(tmp_path, {"oft_diag": blocks})), expected)


def test_a_weight_that_takes_the_place_of_the_old(tmp_path: Path) -> None:
    delta = read(tmp_path, {"set_weight": noise(4, 6), "set_bias": noise(4)})
    before = {"weight": torch.full((4, 6), 2.0), "bias": torch.full((4,), 3.0)}
    added = delta.fitted(LINEAR).contribution(before, 1.0)
    assert relative_error(before["weight"] + added["weight"], noise(4, 6)) < 1e-6
    assert relative_error(before["bias"] + added["bias"], noise(4)) < 1e-6


def test_tensors_of_no_known_kind_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, LORA | {"oft_R.weight": noise(1, 3)})
    assert read_network(path).unsupported == {"PEFT OFT": (("unet", "a"),)}
    with pytest.raises(NetworkError, match=r"^cat: holds only PEFT OFT tensors, which are not read; choose"):
        read_network(written(tmp_path, {"oft_R.weight": noise(1, 3)}))


def peft_folder(folder: Path, config: object) -> Path:
    folder = folder / "my dog"
    folder.mkdir(exist_ok=True)
    tensors = {
        "base_model.model.a.lora_A.weight": noise(2, 6),
        "base_model.model.a.lora_B.weight": noise(4, 2),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def test_a_folder_of_peft_is_a_network_with_its_config(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, {"peft_type": "LORA", "r": 2, "lora_alpha": 8})
    for path in (folder, folder / "adapter_model.safetensors"):
        network = read_network(path)
        (delta,) = network.layers.values()
        assert network.name == "my dog"
        assert isinstance(delta, LowRank)
        assert delta.scale == 4.0


@pytest.mark.parametrize(
    ("config", "pattern"),
    [
        ("{", "my dog: its adapter metadata is not valid JSON"),
        ("[]", "is a JSON list, expected an object"),
        ({"lora_alpha": "8"}, "has alpha 8, expected a number"),
        ({"r": 1e9}, "has rank 1000000000"),
        ({"rank_pattern": [1]}, "has a rank_pattern of type list"),
    ],
)
def test_a_config_that_is_not_understood_is_said(tmp_path: Path, config: object, pattern: str) -> None:
    refused(peft_folder(tmp_path, config), pattern)
