"""Draws the toy world: backgrounds, shapes, two-tone patterns and faces, with numpy and Pillow only."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

SIZE = 64
OVERSAMPLE = 4
OUTLINE = (25, 22, 30)
RGB = tuple[int, int, int]
Points = np.ndarray

COLOURS: dict[str, RGB] = {
    "red": (222, 32, 38),
    "orange": (255, 136, 10),
    "yellow": (255, 225, 30),
    "green": (20, 150, 55),
    "blue": (35, 75, 225),
    "purple": (130, 40, 180),
    "pink": (255, 140, 200),
}
SECOND_TONES: dict[str, RGB] = {**COLOURS, "white": (250, 250, 250), "black": (66, 63, 74)}
PATTERNS = ("plain", "stripes", "bars", "halves", "sides", "dots")
# What only subjects wear: no scene of the base world has them.
SUBJECT_TONES: dict[str, RGB] = {"teal": (0, 150, 150), "brown": (130, 80, 40)}
SUBJECT_PATTERNS = ("quarters", "slants")
TONES = {**SECOND_TONES, **SUBJECT_TONES}
FACES = ("none", "eyes", "smile")

# Where a face sits on each shape that has room for one, as (x, y, scale) in units of the shape's radius.
_FACE_SPOT: dict[str, tuple[float, float, float]] = {
    "circle": (0.0, 0.0, 1.0),
    "square": (0.0, 0.0, 1.0),
    "triangle": (0.0, 0.32, 0.85),
    "star": (0.0, 0.06, 0.9),
    "heart": (0.0, -0.18, 1.0),
    "cross": (0.0, 0.0, 0.95),
}


def _arc(radius: float, start: float, stop: float, steps: int, x: float = 0.0) -> Points:
    """Points on a circle around (x, 0), angles in radians: (steps, 2)."""
    angle = np.linspace(start, stop, steps)
    return np.stack([x + radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _star() -> Points:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.1, 0.52)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.1], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 15
    return np.stack([x, (y - 0.16) * 0.97], axis=1)


def _moon() -> Points:
    """A crescent open to the right: a disc less a smaller disc that is moved to the right."""
    shift, inner = 0.5, 0.78
    tip_x = (1 - inner**2 + shift**2) / (2 * shift)
    outer_angle = float(np.arccos(tip_x))
    inner_angle = float(np.arccos((tip_x - shift) / inner))
    outside = _arc(1.0, outer_angle, 2 * np.pi - outer_angle, 40)
    inside = _arc(inner, -inner_angle, -2 * np.pi + inner_angle, 30, shift)
    points = np.concatenate([outside, inside])
    return points - np.array([(points[:, 0].min() + points[:, 0].max()) / 2, 0.0])


# Outlines in units of the shape's radius, y downwards, each about 2 wide and high.
SHAPES: dict[str, Points] = {
    "circle": _arc(0.96, 0, 2 * np.pi, 60),
    "square": np.array([(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)]),
    "triangle": np.array([(0.0, -0.95), (1.05, 0.85), (-1.05, 0.85)]),
    "star": _star(),
    "heart": _heart(),
    "cross": np.array(
        [
            (x, y)
            for x, y in [
                (-0.34, -1),
                (0.34, -1),
                (0.34, -0.34),
                (1, -0.34),
                (1, 0.34),
                (0.34, 0.34),
                (0.34, 1),
                (-0.34, 1),
                (-0.34, 0.34),
                (-1, 0.34),
                (-1, -0.34),
                (-0.34, -0.34),
            ]
        ]
    ),
    "moon": _moon(),
}


def _bands(*stops: tuple[float, RGB]) -> np.ndarray:
    """Colours by height (0 top, 1 bottom), linear between stops: (64, 64, 3) in [0, 255]."""
    height = (np.arange(SIZE) + 0.5) / SIZE
    places = [at for at, _ in stops]
    columns = [np.interp(height, places, [colour[c] for _, colour in stops]) for c in range(3)]
    return np.repeat(np.stack(columns, axis=1)[:, None], SIZE, axis=1)


def _below(picture: np.ndarray, line: np.ndarray, colour: RGB, fade: RGB) -> None:
    """Paint everything below a line (heights in pixels, one a column), from colour down to fade."""
    rows = np.arange(SIZE)[:, None] + 0.5
    cover = np.clip(rows - line[None], 0, 1)[..., None]
    depth = np.clip((rows - line[None]) / (SIZE - line.min()), 0, 1)[..., None]
    picture += cover * (np.array(colour) * (1 - depth) + np.array(fade) * depth - picture)


def _studio() -> np.ndarray:
    wall = ((0.0, (186, 186, 188)), (0.7, (212, 212, 213)))
    picture = _bands(*wall, (0.76, (160, 160, 162)), (1.0, (184, 184, 186)))
    away = np.abs(np.arange(SIZE) - 31.5)[None, :, None] / 32
    return picture * (1 - 0.12 * away**2)


def _beach() -> np.ndarray:
    x = np.arange(SIZE)
    picture = _bands((0.0, (120, 195, 245)), (0.4, (200, 232, 250)))
    _below(picture, np.full(SIZE, 26.0), (60, 160, 190), (90, 190, 205))
    _below(picture, 38 + 1.5 * np.sin(x / 7), (245, 243, 235), (245, 243, 235))
    _below(picture, 40.5 + 1.5 * np.sin(x / 7), (236, 214, 160), (224, 194, 132))
    return picture


def _meadow() -> np.ndarray:
    x = np.arange(SIZE)
    picture = _bands((0.0, (165, 212, 245)), (0.5, (220, 238, 250)))
    _below(picture, 30 - 6 * np.sin(x / 13 + 0.6), (170, 208, 130), (150, 200, 110))
    _below(picture, 40 + 4 * np.sin(x / 11 + 2.4), (138, 196, 96), (112, 176, 76))
    return picture


def _night() -> np.ndarray:
    x = np.arange(SIZE)
    picture = _bands((0.0, (14, 18, 52)), (0.7, (44, 52, 104)))
    for row, column in [(7, 9), (15, 30), (6, 48), (24, 56), (28, 6), (18, 44), (35, 31)]:
        picture[row : row + 2, column : column + 2] = (215, 215, 190)
    _below(picture, 48 - 3 * np.sin(x / 9 + 1), (18, 22, 34), (10, 12, 20))
    return picture


def _snow() -> np.ndarray:
    x = np.arange(SIZE)
    picture = _bands((0.0, (178, 192, 212)), (0.6, (206, 216, 228)))
    peaks = 20 + np.abs((x - 20) % 44 - 22) * 0.9
    _below(picture, peaks, (152, 166, 190), (190, 200, 216))
    _below(picture, 40 - 2.5 * np.sin(x / 10), (242, 246, 250), (226, 234, 244))
    return picture


def _desert() -> np.ndarray:
    x = np.arange(SIZE)
    picture = _bands((0.0, (244, 214, 170)), (0.5, (250, 232, 200)))
    _below(picture, 27 + 5 * np.sin(x / 12), (214, 160, 112), (205, 150, 104))
    _below(picture, 42 - 5 * np.sin(x / 15 + 1), (188, 126, 84), (166, 106, 70))
    return picture


def _sea() -> np.ndarray:
    x = np.arange(SIZE)
    picture = _bands((0.0, (190, 222, 232)), (0.25, (214, 234, 238)))
    for number, row in enumerate(range(14, SIZE, 10)):
        dark, light = 0.84**number, np.array((96, 178, 196))
        crest = row + 1.8 * np.sin(x / 4.5 + 2 * number)
        top, low = (tuple(int(v * dark**k) for v in light) for k in (0.8, 1.3))
        _below(picture, crest, (top[0], top[1], top[2]), (low[0], low[1], low[2]))
    return picture


_BACKGROUND_PAINTERS = {
    "studio": _studio,
    "beach": _beach,
    "meadow": _meadow,
    "night": _night,
    "snow": _snow,
    "desert": _desert,
    "sea": _sea,
}
BACKGROUNDS = tuple(_BACKGROUND_PAINTERS)


@cache
def background(name: str) -> np.ndarray:
    """The one look of a named background: (64, 64, 3) float in [0, 255]; do not write to it."""
    picture = _BACKGROUND_PAINTERS[name]()
    picture.setflags(write=False)
    return picture


def _scaled(points: Points, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    moved = (np.asarray(points) * radius + (x, y)) * OVERSAMPLE
    return [(float(a), float(b)) for a, b in moved]


def _pattern_mask(pattern: str, x: float, y: float, radius: float) -> Image.Image:
    """Where the second tone goes, over the whole oversampled canvas (under half of any shape)."""
    mask = Image.new("L", (SIZE * OVERSAMPLE,) * 2, 0)
    draw = ImageDraw.Draw(mask)
    if pattern in ("stripes", "bars"):
        for place in (-0.48, 0.4):
            band = [(-2, place - 0.15), (2, place + 0.15)]
            corners = band if pattern == "stripes" else [(b, a) for a, b in band]
            draw.rectangle(_scaled(np.array(corners), x, y, radius), fill=255)
    elif pattern in ("halves", "sides"):
        # The measured colour is the main one, so the second tone takes a little less than half.
        corners = [(-2, -2), (2, -0.25)] if pattern == "halves" else [(0.1, -2), (2, 2)]
        draw.rectangle(_scaled(np.array(corners), x, y, radius), fill=255)
    elif pattern == "quarters":
        for corners in ([(-2, -2), (-0.06, -0.06)], [(0.06, 0.06), (2, 2)]):
            draw.rectangle(_scaled(np.array(corners), x, y, radius), fill=255)
    elif pattern == "slants":
        for place in (-0.62, 0.38):
            band = [(-2, place - 2.2), (2, place + 1.8), (2, place + 2.2), (-2, place - 1.8)]
            draw.polygon(_scaled(np.array(band), x, y, radius), fill=255)
    elif pattern == "dots":
        for row in range(-1, 2):
            for column in range(-2, 3):
                spot = np.array([column * 0.66 + 0.33 * (row % 2), row * 0.58])
                draw.ellipse(_scaled(np.stack([spot - 0.18, spot + 0.18]), x, y, radius), fill=255)
    return mask


def _draw_face(draw: ImageDraw.ImageDraw, shape: str, smile: bool, x: float, y: float, radius: float) -> None:
    spot_x, spot_y, scale = _FACE_SPOT[shape]
    x, y, unit = x + spot_x * radius, y + spot_y * radius, radius * scale
    for side in (-0.27, 0.27):
        for size, colour in ((0.25, (252, 252, 252)), (0.14, OUTLINE)):
            eye = np.array([(side - size, -0.14 - size), (side + size, -0.14 + size)])
            draw.ellipse(_scaled(eye, x, y, unit), fill=colour)
    if smile:
        mouth = np.array([(-0.3, -0.05), (0.3, 0.44)])
        line = max(2, round(0.13 * unit * OVERSAMPLE))
        corners = _scaled(mouth, x, y, unit)
        draw.arc([*corners[0], *corners[1]], 20, 160, fill=OUTLINE, width=line)


def shape_mask(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """The area a shape covers, its outline included: (64, 64) float in [0, 1]."""
    mask = Image.new("L", (SIZE * OVERSAMPLE,) * 2, 0)
    draw = ImageDraw.Draw(mask)
    points = _scaled(SHAPES[shape], x, y, radius)
    draw.polygon(points, fill=255)
    draw.line([*points, points[0], points[1]], fill=255, width=OVERSAMPLE + 1, joint="curve")
    return np.asarray(mask.reduce(OVERSAMPLE), dtype=np.float32) / 255


def draw_object(
    shape: str, main: RGB, second: RGB, pattern: str, face: str, x: float, y: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """One object on an empty canvas.

    Returns:
        The colours (64, 64, 3) in [0, 255] and the cover (64, 64) in [0, 1].
    """
    canvas = Image.new("RGB", (SIZE * OVERSAMPLE,) * 2, OUTLINE)
    draw = ImageDraw.Draw(canvas)
    points = _scaled(SHAPES[shape], x, y, radius)
    draw.rectangle([0, 0, *canvas.size], fill=main)
    if pattern != "plain":
        canvas.paste(second, mask=_pattern_mask(pattern, x, y, radius))
    if face != "none" and shape in _FACE_SPOT:
        _draw_face(draw, shape, face == "smile", x, y, radius)
    draw.line([*points, points[0], points[1]], fill=OUTLINE, width=OVERSAMPLE + 1, joint="curve")
    return np.asarray(canvas.reduce(OVERSAMPLE), dtype=np.float32), shape_mask(shape, x, y, radius)


def compose(background_name: str, colours: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """An object over a background: (64, 64, 3) uint8."""
    cover = cover[..., None]
    return np.round(background(background_name) * (1 - cover) + colours * cover).astype(np.uint8)
