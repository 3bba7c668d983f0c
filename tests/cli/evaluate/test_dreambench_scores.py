"""Scores against the same sums written out plainly; a wrong picture, prompt or preprocessing shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, Dinov2Model, ViTModel

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.dreambench.backbones import load_backbone
from lib_pg.cli.evaluate.dreambench.scores import Scorer
from tests.cli.evaluate.dreambench_models import PIXELS, picture, save_backbones

PROMPTS = ["a dog in the snow", "a red cube", "a dog in the snow", "the moon"]
IMAGES = [picture(seed) for seed in range(4)]
REFERENCES = [picture(10 + seed, 48, 64) for seed in range(3)]
SEEN = 0.02  # a cosine that is wrong by so much


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbones")
    save_backbones(folder)
    return folder


def scorer(folder: Path, batch: int = 3) -> Scorer:
    others = {
        "dino": load_backbone(str(folder / "dino"), ("vit", "dinov2"), "cpu", "--dino"),
        "dinov2": load_backbone(str(folder / "dinov2"), ("dinov2",), "cpu", "--dinov2"),
    }
    return Scorer(load_backbone(str(folder / "clip"), ("clip",), "cpu", "--clip"), others, batch)


def scores(
    folder: Path,
    images: Sequence[Image.Image] = IMAGES,
    prompts: Sequence[str] = PROMPTS,
    references: Sequence[Image.Image] = REFERENCES,
    batch: int = 3,
) -> dict[str, np.ndarray]:
    found = scorer(folder, batch)
    found.learn("subject", references)
    rows = found.score("subject", prompts, images)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def pixels(image: Image.Image, edge: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Shrink the shorter side to `edge`, cut the middle out, normalise."""
    short = min(image.size)
    size = tuple(int(edge * side / short) for side in image.size)
    small = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (small.width - PIXELS) // 2, (small.height - PIXELS) // 2
    small = small.crop((left, top, left + PIXELS, top + PIXELS))
    values = (np.asarray(small) / 255 - np.array(mean)) / np.array(std)
    return torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)[None]


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@torch.no_grad()
def expected(folder: Path) -> dict[str, list[float]]:
    """Return the scores of IMAGES, one picture, prompt and reference at a time."""
    clip = CLIPModel.from_pretrained(folder / "clip").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "clip")
    vit = ViTModel.from_pretrained(folder / "dino", add_pooling_layer=False).eval()
    dinov2 = Dinov2Model.from_pretrained(folder / "dinov2").eval()

    def by_clip(image: Image.Image) -> torch.Tensor:
        words = tokenizer(["x"], return_tensors="pt")
        return clip(**words, pixel_values=pixels(image, PIXELS, CLIP_MEAN, CLIP_STD)).image_embeds[0]

    def by_vit(image: Image.Image) -> torch.Tensor:
        small = image.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
        given = pixels(small, PIXELS, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        return vit(given).last_hidden_state[0, 0]

    def by_dinov2(image: Image.Image) -> torch.Tensor:
        return dinov2(pixels(image, 40, CLIP_MEAN, CLIP_STD)).last_hidden_state[0, 0]

    found: dict[str, list[float]] = {"clip_t": []}
    for image, prompt in zip(IMAGES, PROMPTS, strict=True):
        words = tokenizer([prompt], return_tensors="pt")
        logits = clip(**words, pixel_values=pixels(image, PIXELS, CLIP_MEAN, CLIP_STD)).logits_per_image
        found["clip_t"].append(float(logits / clip.logit_scale.exp()))
    for name, by in (("clip_i", by_clip), ("dino", by_vit), ("dinov2", by_dinov2)):
        found[name] = [
            float(np.mean([float(torch.cosine_similarity(by(image), by(one), dim=0)) for one in REFERENCES]))
            for image in IMAGES
        ]
    return found


def test_scores_are_those_written_out_plainly(folder: Path) -> None:
    found, plain = scores(folder), expected(folder)
    assert set(found) == set(plain)
    for name, values in plain.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)
        assert np.ptp(values) > SEEN, f"{name} does not tell pictures apart: nothing is tested"


def test_batches_do_not_matter(folder: Path) -> None:
    one, all_ = scores(folder, batch=1), scores(folder, batch=64)
    for name in one:
        np.testing.assert_allclose(one[name], all_[name], atol=1e-5)


def test_swapped_pictures_show(folder: Path) -> None:
    right, wrong = scores(folder), scores(folder, images=[IMAGES[1], IMAGES[0], *IMAGES[2:]])
    for name in right:
        assert np.abs(right[name] - wrong[name])[:2].max() > SEEN, name
        np.testing.assert_allclose(right[name][2:], wrong[name][2:], atol=1e-5)


def test_shuffled_prompts_show_in_clip_t_alone(folder: Path) -> None:
    right, wrong = scores(folder), scores(folder, prompts=PROMPTS[::-1])
    assert np.abs(right["clip_t"] - wrong["clip_t"]).max() > SEEN
    for name in ("clip_i", "dino", "dinov2"):
        np.testing.assert_allclose(right[name], wrong[name], atol=1e-6)


def test_another_subjects_references_show(folder: Path) -> None:
    right, wrong = scores(folder), scores(folder, references=[picture(90), picture(91)])
    np.testing.assert_allclose(right["clip_t"], wrong["clip_t"], atol=1e-6)
    for name in ("clip_i", "dino", "dinov2"):
        assert np.abs(right[name] - wrong[name]).max() > SEEN, name


@pytest.mark.parametrize(
    ("backbone", "touched"), [("clip", {"clip_t", "clip_i"}), ("dino", {"dino"}), ("dinov2", {"dinov2"})]
)
def test_wrong_normalisation_shows_where_it_is(
    folder: Path, tmp_path: Path, backbone: str, touched: set[str]
) -> None:
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / backbone / "preprocessor_config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**config, "do_normalize": False}), "utf-8")
    right, wrong = scores(folder), scores(tmp_path / "other")
    for name in right:
        assert (np.abs(right[name] - wrong[name]).max() > SEEN) == (name in touched), name


def test_the_whole_picture_of_itself_is_alike(folder: Path) -> None:
    found = scores(folder, images=[REFERENCES[0]], prompts=["x"], references=[REFERENCES[0]])
    for name in ("clip_i", "dino", "dinov2"):
        assert found[name][0] == pytest.approx(1, abs=1e-5)


def test_a_prompt_that_is_longer_than_clip_reads_is_cut(folder: Path) -> None:
    long = "a dog " * 100
    assert np.isfinite(scores(folder, images=IMAGES[:1], prompts=[long])["clip_t"]).all()


def test_every_number_stands_beside_its_backbone_and_revision(folder: Path, tmp_path: Path) -> None:
    told = scorer(folder).told()
    assert {name: each["called"] for name, each in told.items()} == {
        "clip_t": "CLIP-T", "clip_i": "CLIP-I", "dino": "DINO", "dinov2": "DINOV2",
    }  # fmt: skip
    assert all(len(each["about"].partition("sha256 ")[2].partition(",")[0]) == 16 for each in told.values())
    assert "ViTModel" in told["dino"]["about"] and "clip (CLIPModel" in told["clip_i"]["about"]
    shutil.copytree(folder, tmp_path / "other")
    path = tmp_path / "other" / "dino" / "preprocessor_config.json"
    path.write_text(path.read_text("utf-8").replace("0.485", "0.486"), "utf-8")
    other = scorer(tmp_path / "other").told()
    assert [name for name in told if told[name] != other[name]] == ["dino"]


def test_what_is_no_such_backbone_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--clip .* is a 'vit' model; it must be one of clip"):
        load_backbone(str(folder / "dino"), ("clip",), "cpu", "--clip")
    with pytest.raises(UsageError, match=r"--dino .* cannot be loaded"):
        load_backbone(str(tmp_path), ("vit",), "cpu", "--dino")


def test_weights_that_could_run_code_are_not_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "dino", tmp_path / "dino")
    state = ViTModel.from_pretrained(folder / "dino", add_pooling_layer=False).state_dict()
    torch.save(state, tmp_path / "dino" / "pytorch_model.bin")
    (tmp_path / "dino" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="cannot be loaded") as caught:
        load_backbone(str(tmp_path / "dino"), ("vit",), "cpu", "--dino")
    assert "safetensors" in str(caught.value) and "\n" not in str(caught.value)
