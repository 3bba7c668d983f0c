"""Rules that read a picture of the toy world: what it shows, and how like a subject its object is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from training.drawing import (
    BACKGROUNDS,
    COLOURS,
    SECOND_TONES,
    SHAPES,
    SIZE,
    TONES,
    background,
    draw_object,
    shape_mask,
)
from training.world import PLACES, SIZES, STAR, Scene, Subject

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
    """Where a picture (64, 64, 3) differs from its background, holes filled: (64, 64) bool.

    Only the biggest connected part counts, so that a stray speck is no object.
    """
    apart = _as_bits(np.abs(picture.astype(np.float32) - background(name)).sum(axis=2) > _DIFFERENCE)
    # A ring of background around the picture lets one flood reach everything outside the object.
    outside = _flood(1, _ALL_BITS & ~apart)
    return _from_bits(_largest_part(_ALL_BITS & ~outside))


# A mask as one number, a bit a pixel, with a ring around the picture: a flood grows by a few operations.
_WIDTH = SIZE + 2
_ALL_BITS = (1 << _WIDTH * _WIDTH) - 1


def _as_bits(mask: np.ndarray) -> int:
    return int.from_bytes(np.packbits(np.pad(mask, 1), bitorder="little").tobytes(), "little")


def _from_bits(bits: int) -> np.ndarray:
    octets = np.frombuffer(bits.to_bytes((_WIDTH * _WIDTH + 7) // 8, "little"), dtype=np.uint8)
    pixels = np.unpackbits(octets, count=_WIDTH * _WIDTH, bitorder="little")
    return pixels.reshape(_WIDTH, _WIDTH)[1:-1, 1:-1].astype(bool)


def _flood(start: int, allowed: int) -> int:
    """What is connected with `start` through `allowed`, along rows and columns."""
    grown, reached = start & allowed, 0
    while grown != reached:
        reached = grown
        grown |= grown << 1 | grown >> 1 | grown << _WIDTH | grown >> _WIDTH
        grown &= allowed
    return reached


def _largest_part(mask: int) -> int:
    """The biggest connected part of a mask, the first of equals."""
    best = 0
    while mask.bit_count() > best.bit_count():
        part = _flood(mask & -mask, mask)
        mask &= ~part
        if part.bit_count() > best.bit_count():
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


def _moved(array: np.ndarray, moves: Sequence[tuple[int, int]]) -> np.ndarray:
    """An array (64, 64, ...) shifted by each move (down, right), zeros coming in from outside."""
    padded = np.pad(array, [(SIZE, SIZE), (SIZE, SIZE), *[(0, 0)] * (array.ndim - 2)])
    corners = [(SIZE - down, SIZE - right) for down, right in moves]
    return np.stack([padded[row : row + SIZE, column : column + SIZE] for row, column in corners])


def _moves(mask: np.ndarray) -> list[tuple[int, int]]:
    """The small shifts (down, right) that bring a mask about to the middle."""
    row, column = _box_centre(mask)
    return [(_MIDDLE - row + dy, _MIDDLE - column + dx) for dy, dx in _SHIFTS]


def fit_shape(mask: np.ndarray) -> tuple[str, float, tuple[float, float], float]:
    """The template with the greatest overlap (intersection over union) with a mask.

    Returns:
        Shape, radius, centre (x, y) and overlap.
    """
    names, templates = _templates()
    moves = _moves(mask)
    moved = _moved(mask, moves)[:, _WINDOW, _WINDOW].reshape(len(moves), -1).astype(np.float32)
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


@dataclass(frozen=True, eq=False)
class _Drawings:
    """A subject at each of the radii in the middle of the canvas, as the window's 2304 pixels.

    Attributes:
        covers: 1 where a drawing is, else 0: (2304, radii).
        colours: about the mean of their drawing, 0 where it is not: (2304, 3, radii).
    """

    covers: np.ndarray
    colours: np.ndarray


@cache
def _drawings(subject: Subject) -> _Drawings:
    covers, colours = [], []
    for radius in _RADII:
        main, second = TONES[subject.colour], TONES[subject.second]
        place = (_MIDDLE, _MIDDLE, radius)
        drawn, cover = draw_object(subject.shape, main, second, subject.pattern, subject.face, *place)
        inside = (cover[_WINDOW, _WINDOW] > 0.5).reshape(-1, 1).astype(np.float64)
        pixels = drawn[_WINDOW, _WINDOW].reshape(-1, 3)
        covers.append(inside[:, 0])
        colours.append(inside * (pixels - (inside * pixels).sum(0) / inside.sum()))
    return _Drawings(np.stack(covers, -1), np.stack(colours, -1))


def _correlations(pixels: np.ndarray, drawings: _Drawings) -> np.ndarray:
    """How the colours inside each drawing follow its own, about the mean colours of both.

    Args:
        pixels: the window of a picture in several places, (n, 2304, 3).
        drawings: of a subject.

    Returns:
        Normalised correlations (-1..1): (n, radii); 0 where all pixels are alike.
    """
    columns = pixels.transpose(0, 2, 1)
    sums = columns @ drawings.covers
    spread = np.square(columns).sum(1) @ drawings.covers - np.square(sums).sum(1) / drawings.covers.sum(0)
    # The drawing's colours are about their mean, so that of the pixels takes no part.
    together = sum(columns[:, part] @ drawings.colours[:, part] for part in range(3))
    scale = np.sqrt(np.maximum(spread, 0) * np.square(drawings.colours).sum((0, 1)))
    return np.where(scale > 1e-6, together / np.maximum(scale, 1e-6), 0.0)


def fidelity(picture: np.ndarray, subject: Subject = STAR) -> float:
    """How much the object looks like the subject, 0..1.

    The best product, over small shifts and scales of the subject's drawing, of the colours' correlation
    inside the drawing and the overlap of the drawing with the object's mask.
    """
    mask = object_mask(picture, read_background(picture))
    if mask.sum() < _FEWEST_PIXELS:
        return 0.0
    drawings, moves = _drawings(subject), _moves(mask)
    masks = _moved(mask, moves)
    windows = masks[:, _WINDOW, _WINDOW].reshape(len(moves), -1)
    pixels = _moved(picture, moves)[:, _WINDOW, _WINDOW].reshape(len(moves), -1, 3)
    # The window has all of the drawing, but perhaps not all of the object.
    shared = windows.astype(np.float64) @ drawings.covers
    overlap = shared / (masks.sum((1, 2))[:, None] + drawings.covers.sum(0) - shared)
    return max(0.0, float((overlap * _correlations(pixels.astype(np.float64), drawings)).max()))
