"""How trainers spell the same layers: a row each, read into the same deltas."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_pg.deltas.dora import Dora
from lib_pg.formats import Match, NetworkError, match, read_network
from tests.networks import ldm_paths, random_factors, tiny_text_encoder, tiny_unet

ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
TEXT = "text_model.encoder.layers.1"
LAYERS = {
    "unet": (f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0", "up_blocks.0.resnets.1.conv1"),
    "te1": (f"{TEXT}.self_attn.q_proj", f"{TEXT}.mlp.fc1"),
    "te2": (f"{TEXT}.self_attn.out_proj", f"{TEXT}.mlp.fc2"),
}
KOHYA = (".lora_down.weight", ".lora_up.weight")
PEFT = (".lora_A.weight", ".lora_B.weight")
NUMBER, LIST_OF_ONE = torch.tensor(3.0), torch.tensor([3.0])


@dataclass(frozen=True)
class Spelling:
    """What one trainer writes.

    Attributes:
        prefixes: by component; it writes no others.
        ends: of the two factors' names.
        flat: whether the path's dots become underscores.
        original: whether the U-Net's layers are named as in the original code.
        alpha: what it writes beside the factors.
    """

    prefixes: dict[str, str]
    ends: tuple[str, str] = KOHYA
    flat: bool = False
    original: bool = False
    alpha: Tensor | None = NUMBER
    more: dict[str, Tensor] | None = None


def prefixes(unet: str, te1: str = "", te2: str = "") -> dict[str, str]:
    named = {"unet": unet, "te1": te1, "te2": te2}
    return {component: prefix for component, prefix in named.items() if prefix}


DIFFUSERS = prefixes("unet.", "text_encoder.", "text_encoder_2.")
SPELLINGS = {
    "kohya, SD": Spelling(prefixes("lora_unet_", "lora_te_"), flat=True),
    "kohya, SDXL": Spelling(prefixes("lora_unet_", "lora_te1_", "lora_te2_"), flat=True, original=True),
    "ai-toolkit": Spelling(
        prefixes("lora_unet_", "lora_te1_", "lora_te2_"), flat=True, original=True, alpha=None
    ),
    "OneTrainer, legacy": Spelling(prefixes("lora_unet_", "lora_te1_", "lora_te2_"), flat=True),
    "OneTrainer, its own": Spelling(prefixes("lora_unet.", "lora_te1.", "lora_te2."), alpha=LIST_OF_ONE),
    "OneTrainer, OMI": Spelling(prefixes("unet.", "clip_l.", "clip_g."), original=True),
    "OneTrainer, mixed": Spelling(prefixes("unet.", "clip_l.", "clip_g.")),
    "ComfyUI": Spelling(
        prefixes(
            "diffusion_model.", "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."
        ),
        original=True,
        more={".reshape_weight": torch.tensor([8, 8])},
    ),
    "ComfyUI, short": Spelling(
        prefixes("diffusion_model.", "clip_l.transformer.", "clip_g.transformer."), original=True
    ),
    "ComfyUI, SD 2.x": Spelling(prefixes("diffusion_model.", "text_encoders.clip_h.transformer.")),
    "musubi-tuner": Spelling(prefixes("lora_unet_"), flat=True, original=True),
    "musubi-tuner, converted": Spelling(prefixes("diffusion_model."), PEFT, original=True),
    "SimpleTuner, LyCORIS": Spelling(prefixes("lycoris_"), flat=True),
    "LyCORIS, a text encoder": Spelling({"te1": "lycoris_"}, flat=True),
    "diffusers and SimpleTuner": Spelling(DIFFUSERS, PEFT, alpha=None),
    "diffusers with network_alphas": Spelling(DIFFUSERS, PEFT),
    "diffusers up to 0.21, U-Net": Spelling(prefixes("unet."), (".lora.down.weight", ".lora.up.weight")),
    "diffusers up to 0.21, text encoder": Spelling(
        {"te1": "text_encoder."}, (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
    ),
    "PEFT": Spelling(prefixes("base_model.model."), PEFT, alpha=None),
    "PEFT of a text encoder": Spelling({"te1": "base_model.model."}, PEFT, alpha=None),
    "PEFT in diffusers' names": Spelling(prefixes("base_model.model.unet."), PEFT),
    "PEFT with an adapter's name": Spelling(
        DIFFUSERS, (".lora_A.default.weight", ".lora_B.default.weight"), alpha=None
    ),
    "PEFT with another name": Spelling(
        DIFFUSERS, (".lora_A.my_dog.weight", ".lora_B.my_dog.weight"), alpha=None
    ),
    "PEFT without 'weight'": Spelling(DIFFUSERS, (".lora_A", ".lora_B")),
    "PEFT with a name and without 'weight'": Spelling(DIFFUSERS, (".lora_A.default", ".lora_B.default")),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_each_spelling_is_read_into_the_same_deltas(tmp_path: Path, name: str) -> None:
    spelling = SPELLINGS[name]
    found, expected = matched(tmp_path, spelling)
    assert not found.unmatched
    assert not found.unsupported
    for component in spelling.prefixes:
        assert found.deltas[component].keys() == expected[component].keys()
        for module, dense in expected[component].items():
            delta = found.deltas[component][module]
            torch.testing.assert_close(delta.dense(), dense.view_as(module.weight), rtol=1e-5, atol=1e-6)


OLD = {"to_out": "to_out.0"}
OLD_TEXT = {"to_q": "q_proj", "to_out": "out_proj"}


def test_attention_processors_of_diffusers_up_to_0_16(tmp_path: Path) -> None:
    unet, text, tensors, expected = tiny_unet(xl=True), tiny_text_encoder(), {}, {}
    for prefix, model, parent, names in (
        (f"unet.{ATTENTION}.processor.", unet, ATTENTION, OLD),
        (f"text_encoder.{TEXT}.self_attn.", text, f"{TEXT}.self_attn", OLD_TEXT),
    ):
        for old in ("to_q", "to_out"):
            module = layer_of(model, f"{parent}.{names.get(old, old)}")
            factors = random_factors(module, 2, 3.0, torch.float32, len(tensors))
            stem = f"{prefix}{old}_lora"
            tensors |= {f"{stem}.down.weight": factors.down, f"{stem}.up.weight": factors.up}
            tensors[f"{stem}.alpha"] = NUMBER.clone()
            expected[module] = factors.dense()
    save_file(tensors, tmp_path / "cat.safetensors")
    found = match(read_network(tmp_path / "cat.safetensors"), {"unet": unet, "te1": text})
    flat = {module: delta for layers in found.deltas.values() for module, delta in layers.items()}
    assert flat.keys() == expected.keys()
    for module, dense in expected.items():
        torch.testing.assert_close(flat[module].dense(), dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["", ".weight", ".default", ".default.weight"])
def test_lengths_of_peft_under_every_name(tmp_path: Path, name: str) -> None:
    lengths = torch.rand(16)
    spelling = Spelling(prefixes("unet."), PEFT, more={f".lora_magnitude_vector{name}": lengths})
    layer = f"{ATTENTION}.to_q"
    found, _ = matched(tmp_path, spelling, {"unet": (layer,)}, {"unet": tiny_unet(xl=True)})
    (delta,) = found.deltas["unet"].values()
    assert isinstance(delta, Dora)
    assert torch.equal(delta.magnitude, lengths)


@pytest.mark.parametrize(
    ("prefix", "called"),
    [
        ("clip_vision.text_model.", "clip_vision"),
        ("text_encoders.qwen.transformer.text_model.", "qwen.transformer"),
        ("t5xxl.transformer.text_model.", "te3"),
        ("lora_te3_text_model_", "te3"),
        ("lycoris_whatever_text_model_", "whatever"),
        ("a\nb\x1b[31m.text_model.", "a?b?[31m"),
    ],
)
def test_a_text_encoder_that_is_not_known_is_not_blamed_on_the_unet(
    tmp_path: Path, prefix: str, called: str
) -> None:
    spelling = Spelling(prefixes("lora_unet_"), flat=True)
    join = "_" if prefix.endswith("_") else "."
    stem = prefix + "encoder.layers.0.self_attn.q_proj".replace(".", join)
    more = {f"{stem}.lora_down.weight": torch.ones(2, 8), f"{stem}.lora_up.weight": torch.ones(8, 2)}
    write(tmp_path, spelling, {"unet": tiny_unet(xl=True)}, LAYERS, more)
    found = match(read_network(tmp_path / "cat.safetensors"), {"unet": tiny_unet(xl=True)})
    (left,) = found.unmatched
    assert left.endswith(f"(the model has no {called})")
    assert not left.startswith("unet")
    assert found.summary().isprintable()


def test_of_a_network_that_does_not_fit_a_layer_of_the_unet_is_shown(tmp_path: Path) -> None:
    """Not one of its text encoder, which this pipeline does not have."""
    models = {"unet": tiny_unet(xl=True), "te1": tiny_text_encoder()}
    write(tmp_path, SPELLINGS["OneTrainer, OMI"], models, LAYERS)
    with pytest.raises(NetworkError, match=r"first of 5 layers: unet .* \(the model"):
        match(read_network(tmp_path / "cat.safetensors"), {"unet": tiny_unet(block_out_channels=(4, 12))})


def test_two_spellings_of_one_layer_in_one_file_are_refused(tmp_path: Path) -> None:
    unet = {"unet": tiny_unet(xl=True)}
    first = write(tmp_path, SPELLINGS["kohya, SDXL"], unet, LAYERS)
    write(tmp_path, Spelling(prefixes("unet.")), unet, LAYERS, first)
    with pytest.raises(NetworkError, match="has two names for one layer"):
        match(read_network(tmp_path / "cat.safetensors"), unet)
    named = {key.replace(".lora_A.", ".lora_A.default."): each.clone() for key, each in PAIR.items()}
    save_file(PAIR | named, tmp_path / "cat.safetensors")
    with pytest.raises(NetworkError, match="names the same tensor twice"):
        read_network(tmp_path / "cat.safetensors")


PAIR = {"unet.a.lora_A.weight": torch.ones(2, 4), "unet.a.lora_B.weight": torch.ones(4, 2)}


def layer_of(model: nn.Module, path: str) -> nn.Module:
    """Return a layer by the path that files have; transformers 5 dropped the root of one class."""
    there = dict(model.named_modules())
    return there.get(path) or there[path.removeprefix("text_model.")]


def write(
    folder: Path,
    spelling: Spelling,
    models: dict[str, nn.Module],
    layers: dict[str, tuple[str, ...]],
    others: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    tensors, _ = spelled(spelling, models, layers)
    save_file(tensors | (others or {}), folder / "cat.safetensors")
    return tensors


def matched(
    folder: Path,
    spelling: Spelling,
    layers: dict[str, tuple[str, ...]] = LAYERS,
    models: dict[str, nn.Module] | None = None,
) -> tuple[Match, dict[str, dict[nn.Module, Tensor]]]:
    models = models or {
        "unet": tiny_unet(xl=True),
        "te1": tiny_text_encoder(),
        "te2": tiny_text_encoder(projection=True),
    }
    tensors, expected = spelled(spelling, models, layers)
    save_file(tensors, folder / "cat.safetensors")
    return match(read_network(folder / "cat.safetensors"), models), expected


def spelled(
    spelling: Spelling, models: dict[str, nn.Module], layers: dict[str, tuple[str, ...]]
) -> tuple[dict[str, Tensor], dict[str, dict[nn.Module, Tensor]]]:
    """Return a file's tensors, and dW by layer and component."""
    tensors: dict[str, Tensor] = {}
    expected: dict[str, dict[nn.Module, Tensor]] = {}
    for component in spelling.prefixes.keys() & models.keys():
        names = ldm_paths(models[component]) if spelling.original and component == "unet" else {}
        for path in layers[component]:
            module = layer_of(models[component], path)
            alpha = None if spelling.alpha is None else float(spelling.alpha)
            factors = random_factors(module, 2, alpha, torch.float32, len(tensors))
            named = names.get(path, path)
            stem = spelling.prefixes[component] + (named.replace(".", "_") if spelling.flat else named)
            tensors |= {stem + spelling.ends[0]: factors.down, stem + spelling.ends[1]: factors.up}
            if spelling.alpha is not None:
                tensors[f"{stem}.alpha"] = spelling.alpha.clone()
            tensors |= {stem + end: value.clone() for end, value in (spelling.more or {}).items()}
            expected.setdefault(component, {})[module] = factors.dense()
    return tensors, expected
