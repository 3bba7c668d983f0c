"""The drawn world, the rules that read it, and the bundled tokenizer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

from training.drawing import BACKGROUNDS, COLOURS, SECOND_TONES, SHAPES
from training.measure import fidelity, matches, read
from training.world import (
    PLACES,
    SIZES,
    STAR,
    SUBJECT_COLOURS,
    Scene,
    full_caption,
    random_caption,
    random_scenes,
    vocabulary,
)

BUNDLED = Path(__file__).parents[2] / "lib_pg" / "cli" / "bundled"
TOKENIZER = BUNDLED / "pipeline" / "tokenizer"


def test_the_same_seed_draws_the_same_pictures() -> None:
    first, second = (random_scenes(5, seed=3) for _ in range(2))
    assert first == second
    for one, other in zip(first, second, strict=True):
        picture = one.draw()
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, other.draw())


def test_another_seed_draws_other_scenes() -> None:
    assert random_scenes(5, seed=3) != random_scenes(5, seed=4)


def test_the_base_world_never_holds_the_subject() -> None:
    for scene in random_scenes(2000, seed=0):
        tones = {scene.colour, scene.second}
        assert not (scene.shape == "star" and scene.pattern != "plain" and tones == set(SUBJECT_COLOURS))


def test_measure_reads_true_drawings() -> None:
    right: Counter[str] = Counter()
    scenes = random_scenes(40, seed=11)
    for scene in scenes:
        right.update(part for part, good in matches(read(scene.draw()), scene).items() if good)
    for part in ("shape", "colour", "background", "place", "size"):
        assert right[part] >= 0.95 * len(scenes), part


@pytest.mark.parametrize("shape", SHAPES)
def test_measure_reads_every_plain_shape_at_every_size(shape: str) -> None:
    for number, size in enumerate(SIZES):
        for place, background in zip(PLACES, BACKGROUNDS, strict=False):
            scene = Scene(shape, list(COLOURS)[number], background, place, size)
            assert all(matches(read(scene.draw()), scene).values()), scene


def test_an_empty_background_has_no_object() -> None:
    from training.drawing import background

    assert read(background("beach").astype(np.uint8)) is None
    assert fidelity(background("beach").astype(np.uint8)) == 0.0


def test_fidelity_knows_the_subject() -> None:
    for background in BACKGROUNDS:
        assert fidelity(STAR.scene(background).draw()) > 0.8
        assert fidelity(STAR.scene(background, "left", "small").draw()) > 0.75
    plain = Scene("star", "yellow", "beach", "center", "big")
    faced = Scene("star", "red", "beach", "center", "big", "white", "sides", "smile")
    other = Scene("circle", "yellow", "beach", "center", "big", "purple", "sides", "smile")
    for scene in (plain, faced, other):
        assert fidelity(scene.draw()) < 0.75, scene


def test_captions_name_every_attribute_or_are_dropped() -> None:
    scene = STAR.scene()
    assert full_caption(scene, "sks star") == "a big sks star in the studio in the center"
    rng = np.random.default_rng(0)
    captions = [random_caption(scene, rng) for _ in range(400)]
    assert 0.05 < captions.count("") / len(captions) < 0.2
    assert random_caption(scene, rng, null=0.0, drop=1.0).endswith("thing")
    words = {word for caption in captions for word in caption.split()}
    assert words <= set(vocabulary())
    assert max(len(caption.split()) for caption in captions) <= 14


def test_the_subject_has_four_pictures_in_one_place() -> None:
    scenes = STAR.training_scenes()
    assert len({scene.draw().tobytes() for scene in scenes}) == 4
    assert {(scene.background, scene.place, scene.size) for scene in scenes} == {("studio", "center", "big")}
    assert set(SUBJECT_COLOURS) <= set(SECOND_TONES)


def test_the_bundle_stays_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= 12_000_000


@pytest.fixture(scope="module")
def tokenizer():
    transformers = pytest.importorskip("transformers")
    if not TOKENIZER.exists():
        pytest.skip("the bundled model is not here")
    return transformers.CLIPTokenizer.from_pretrained(TOKENIZER)


def test_every_word_is_one_token(tokenizer) -> None:
    numbers = [tokenizer(word, add_special_tokens=False).input_ids for word in vocabulary()]
    assert all(len(ids) == 1 for ids in numbers)
    assert len({ids[0] for ids in numbers}) == len(numbers)


@pytest.mark.parametrize("text", ["", "zebra", "Un café 😀 猫", "(a:1.2), [b]!", "\n\t", "a " * 50])
def test_hostile_text_becomes_known_tokens(tokenizer, text: str) -> None:
    ids = tokenizer(text, padding="max_length", max_length=16, truncation=True).input_ids
    assert len(ids) == 16
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in ids
    assert max(ids) < len(tokenizer)


def test_saving_keeps_the_ids(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    for text in ("a big sks star at the beach on the left", "", "unknown words, here"):
        options = {"padding": "max_length", "max_length": 16, "truncation": True}
        assert tokenizer(text, **options).input_ids == again(text, **options).input_ids
    assert again.model_max_length == 16
