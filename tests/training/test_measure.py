"""The quick ways of the rules return what the plain ones do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.drawing import TONES, draw_object
from training.measure import fidelity, object_mask, read_background
from training.world import PLACES, SUBJECTS, Subject, random_scenes

RADII = (9.0, 10.0, 11.0, 12.0, 13.0, 15.5, 16.5, 17.5, 18.5, 19.5)


def pictures() -> list[np.ndarray]:
    """Subjects and others, clean, noisy, torn and blended."""
    rng = np.random.default_rng(0)
    scenes = [subject.scene("night", place, "small") for subject in SUBJECTS for place in PLACES]
    clean = [scene.draw() for scene in [*scenes, *random_scenes(15, 1)]]
    noisy = [np.clip(each + rng.normal(0, 40, each.shape), 0, 255).astype(np.uint8) for each in clean[::3]]
    torn = [np.roll(each, 20, axis=number % 2) for number, each in enumerate(clean[::3])]
    blended = [(one // 2 + other // 2) for one, other in zip(clean[::4], clean[1::4], strict=False)]
    return [*clean, *noisy, *torn, *blended]


def flooded_mask(picture: np.ndarray) -> np.ndarray:
    """Where a picture is not its background, holes filled, the largest part alone; by Pillow's flood."""
    from training.drawing import background

    apart = np.abs(picture.astype(np.float32) - background(read_background(picture))).sum(axis=2) > 60
    image = Image.fromarray(np.pad(apart, 1).astype(np.uint8)).copy()
    ImageDraw.floodfill(image, (0, 0), 2)
    image = Image.fromarray((np.asarray(image)[1:-1, 1:-1] != 2).astype(np.uint8)).copy()
    best = np.zeros((64, 64), dtype=bool)
    label = 2
    while len(left := np.argwhere(np.asarray(image) == 1)):
        ImageDraw.floodfill(image, (int(left[0, 1]), int(left[0, 0])), label)
        part = np.asarray(image) == label
        best = part if part.sum() > best.sum() else best
        label += 1
        if label == 256:
            break
    return best


def shifted(array: np.ndarray, down: int, right: int) -> np.ndarray:
    out = np.zeros_like(array)
    for row in range(64):
        source = row - down
        if 0 <= source < 64:
            line = np.zeros_like(array[0])
            kept = array[source][max(0, -right) : 64 - max(0, right)]
            line[max(0, right) : max(0, right) + len(kept)] = kept
            out[row] = line
    return out


def plain_fidelity(picture: np.ndarray, subject: Subject) -> float:
    """The definition, one shift and one radius after the other."""
    mask = flooded_mask(picture)
    if mask.sum() < 30:
        return 0.0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    row, column = (round((found[0] + found[-1] + 1) / 2) for found in (rows, columns))
    best = 0.0
    for down in range(30 - row, 35 - row):
        for right in range(30 - column, 35 - column):
            there, seen = shifted(mask, down, right), shifted(picture, down, right).astype(np.float64)
            for radius in RADII:
                main, second = TONES[subject.colour], TONES[subject.second]
                place = (32, 32, radius)
                drawn, cover = draw_object(subject.shape, main, second, subject.pattern, subject.face, *place)
                inside = cover > 0.5
                a, b = (
                    pixels[inside] - pixels[inside].mean(0) for pixels in (seen, drawn.astype(np.float64))
                )
                alike = (a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-6)
                best = max(best, (there & inside).sum() / (there | inside).sum() * alike)
    return float(best)


def test_the_mask_is_that_of_a_flood_from_outside() -> None:
    for picture in pictures():
        assert np.array_equal(object_mask(picture, read_background(picture)), flooded_mask(picture))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_likeness_is_what_its_definition_says(subject: Subject) -> None:
    few = [subject.scene("night", "left", "small").draw(), *pictures()[::25]]
    found = [fidelity(picture, subject) for picture in few]
    assert found == pytest.approx([plain_fidelity(picture, subject) for picture in few], abs=1e-6)
    assert max(found) > 0.7
