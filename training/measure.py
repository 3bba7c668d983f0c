"""Rules that read a picture of the toy world: what it shows, and how like the subject its object is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from training.drawing import (
    BACKGROUNDS,
    COLOURS,
    SECOND_TONES,
    SHAPES,
    SIZE,
    background,
    draw_object,
    shape_mask,
)
from training.world import PLACES, SIZES, Scene, subject_scene

_BORDER = 4
_DIFFERENCE = 60.0
_SHIFTS = tuple((dy, dx) for dy in range(-2, 3) for dx in range(-2, 3))
_RADII = (9.0, 10.0, 11.0, 12.0, 13.0, 15.5, 16.5, 17.5, 18.5, 19.5)
_MIDDLE = SIZE // 2
# Around the middle, every template with every shift fits into this window.
_WINDOW = slice(_MIDDLE - 24, _MIDDLE + 24)
_FEWEST_PIXELS = 30


@dataclass(frozen=True)
class Reading:
    """What a picture shows; `fit` is the overlap (0..1) of its object with the best shape."""

    shape: str
    colour: str
    background: str
    place: str
    size: str
    fit: float


def read_background(picture: np.ndarray) -> str:
    """The background whose border is nearest to the picture's: objects seldom reach the border."""
    border = np.ones((SIZE, SIZE), dtype=bool)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    pixels = picture[border].astype(np.float32)
    return min(BACKGROUNDS, key=lambda name: float(np.abs(pixels - background(name)[border]).mean()))


def object_mask(picture: np.ndarray, name: str) -> np.ndarray:
    """Where a picture (64, 64, 3) differs from its background, holes filled: (64, 64) bool."""
    apart = np.abs(picture.astype(np.float32) - background(name)).sum(axis=2) > _DIFFERENCE
    # A ring of background around the picture lets one flood reach everything outside the object.
    padded = Image.fromarray(np.pad(apart, 1).astype(np.uint8) * 255).copy()
    ImageDraw.floodfill(padded, (0, 0), 128)
    filled = np.asarray(padded)[1:-1, 1:-1] != 128
    return filled & _largest_part(filled)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """The biggest connected part of a mask, so that a stray speck does not count as object."""
    image = Image.fromarray(mask.astype(np.uint8)).copy()
    best = np.zeros_like(mask)
    for label in range(2, 256):
        left = np.argwhere(np.asarray(image) == 1)
        if len(left) <= best.sum():
            break
        ImageDraw.floodfill(image, (int(left[0, 1]), int(left[0, 0])), label)
        part = np.asarray(image) == label
        if part.sum() > best.sum():
            best = part
    return best


@cache
def _templates() -> tuple[list[tuple[str, float]], np.ndarray]:
    """Every shape at every radius in the middle of the canvas: names, and masks (n, 2304)."""
    names = [(shape, radius) for shape in SHAPES for radius in _RADII]
    masks = [shape_mask(shape, _MIDDLE, _MIDDLE, radius)[_WINDOW, _WINDOW] > 0.5 for shape, radius in names]
    return names, np.stack(masks).reshape(len(names), -1).astype(np.float32)


def _box_centre(mask: np.ndarray) -> tuple[int, int]:
    """The rounded centre (row, column) of a mask's bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return round((rows[0] + rows[-1] + 1) / 2), round((columns[0] + columns[-1] + 1) / 2)


def _moved(array: np.ndarray, down: int, right: int) -> np.ndarray:
    """Shift an array's first two axes, zeros coming in from outside."""
    out = np.zeros_like(array)
    rows, columns = array.shape[:2]
    target, source = (
        (slice(max(y, 0), rows + min(y, 0)), slice(max(x, 0), columns + min(x, 0)))
        for y, x in ((down, right), (-down, -right))
    )
    out[target] = array[source]
    return out


def fit_shape(mask: np.ndarray) -> tuple[str, float, tuple[float, float], float]:
    """The template with the greatest overlap (intersection over union) with a mask.

    Returns:
        Shape, radius, centre (x, y) and overlap.
    """
    names, templates = _templates()
    row, column = _box_centre(mask)
    moves = [(_MIDDLE - row + dy, _MIDDLE - column + dx) for dy, dx in _SHIFTS]
    windows = [_moved(mask, *move)[_WINDOW, _WINDOW] for move in moves]
    moved = np.stack(windows).reshape(len(moves), -1).astype(np.float32)
    shared = moved @ templates.T
    overlap = shared / (moved.sum(1)[:, None] + templates.sum(1)[None] - shared)
    move, template = np.unravel_index(int(overlap.argmax()), overlap.shape)
    centre = (_MIDDLE - moves[move][1], _MIDDLE - moves[move][0])
    return *names[template], centre, float(overlap[move, template])


def read_colour(picture: np.ndarray, mask: np.ndarray) -> str:
    """The named colour that most of the object's pixels are nearest to; white and black do not count."""
    tones = np.array(list(SECOND_TONES.values()), dtype=np.float32)
    pixels = picture[mask].astype(np.float32)
    nearest = np.square(pixels[:, None] - tones[None]).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(tones))[: len(COLOURS)]
    return list(COLOURS)[int(counts.argmax())]


def read(picture: np.ndarray) -> Reading | None:
    """What a picture (64, 64, 3) uint8 shows, or None if no object can be seen."""
    name = read_background(picture)
    mask = object_mask(picture, name)
    if mask.sum() < _FEWEST_PIXELS:
        return None
    shape, radius, centre, fit = fit_shape(mask)
    place = min(PLACES, key=lambda p: float(np.hypot(centre[0] - PLACES[p][0], centre[1] - PLACES[p][1])))
    size = min(SIZES, key=lambda s: abs(SIZES[s] - radius))
    return Reading(shape, read_colour(picture, mask), name, place, size, fit)


def matches(reading: Reading | None, scene: Scene) -> dict[str, bool]:
    """Which captioned attributes of a scene a reading got right."""
    parts = ("shape", "colour", "background", "place", "size")
    return {part: reading is not None and getattr(reading, part) == getattr(scene, part) for part in parts}


@cache
def _subject_templates() -> list[tuple[np.ndarray, np.ndarray]]:
    """The subject at every radius in the middle of the canvas: colours (64, 64, 3) and mask (64, 64)."""
    scene = subject_scene()
    found = []
    for radius in _RADII:
        colours, cover = draw_object(
            scene.shape,
            COLOURS[scene.colour],
            SECOND_TONES[scene.second],
            scene.pattern,
            scene.face,
            _MIDDLE,
            _MIDDLE,
            radius,
        )
        found.append((colours, cover > 0.5))
    return found


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Normalised correlation (-1..1) of two sets of pixels (n, 3) about their own mean colours."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-6 else 0.0


def fidelity(picture: np.ndarray) -> float:
    """How much the object looks like the subject, 0..1.

    The best product, over small shifts and scales of the subject's drawing, of the colours' correlation
    inside the drawing and the overlap of the drawing with the object's mask.
    """
    mask = object_mask(picture, read_background(picture))
    if mask.sum() < _FEWEST_PIXELS:
        return 0.0
    row, column = _box_centre(mask)
    best = 0.0
    for dy, dx in _SHIFTS:
        move = (_MIDDLE - row + dy, _MIDDLE - column + dx)
        moved_mask, moved = _moved(mask, *move), _moved(picture, *move).astype(np.float32)
        for colours, cover in _subject_templates():
            overlap = float((moved_mask & cover).sum() / (moved_mask | cover).sum())
            if overlap <= best:
                continue
            best = max(best, overlap * _correlation(moved[cover], colours[cover]))
    return best
