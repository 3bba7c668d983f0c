"""The toy world: what a scene is, random scenes, their captions, and the subjects of LoRAs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.drawing import (
    BACKGROUNDS,
    COLOURS,
    FACES,
    PATTERNS,
    SECOND_TONES,
    SHAPES,
    TONES,
    compose,
    draw_object,
)

PLACES: dict[str, tuple[float, float]] = {
    "center": (32.0, 32.0),
    "left": (20.0, 32.0),
    "right": (44.0, 32.0),
    "top": (32.0, 20.0),
    "bottom": (32.0, 44.0),
}
SIZES: dict[str, float] = {"big": 17.5, "small": 11.0}

_BACKGROUND_PHRASES: dict[str, str] = {
    "studio": "in the studio",
    "beach": "at the beach",
    "meadow": "in the meadow",
    "night": "at night",
    "snow": "in the snow",
    "desert": "in the desert",
    "sea": "at the sea",
}
_PLACE_PHRASES: dict[str, str] = {
    "center": "in the center",
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
_OPENINGS = ("a", "a", "a", "one", "a picture of a", "a drawing of a")
_SIZE_WORDS = {"big": ("big", "big", "large"), "small": ("small", "small", "little")}
SUBJECT_TOKEN = "sks"
# The only named colours the subject wears; no star of the base world wears both.
SUBJECT_COLOURS = ("yellow", "purple")


@dataclass(frozen=True)
class Scene:
    """One object before one background; the last five fields are never captioned."""

    shape: str
    colour: str
    background: str
    place: str
    size: str
    second: str = "white"
    pattern: str = "plain"
    face: str = "none"
    dx: float = 0.0
    dy: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        """The object's centre in pixels, jitter included."""
        x, y = PLACES[self.place]
        return x + self.dx, y + self.dy

    def draw(self) -> np.ndarray:
        """The picture: (64, 64, 3) uint8."""
        colours, cover = draw_object(
            self.shape,
            TONES[self.colour],
            TONES[self.second],
            self.pattern,
            self.face,
            *self.centre,
            SIZES[self.size],
        )
        return compose(self.background, colours, cover)


def is_reserved(scene: Scene) -> bool:
    """Whether a scene shows the subject's combination, which the base model must never see."""
    two_tone = scene.pattern != "plain" and {scene.colour, scene.second} == set(SUBJECT_COLOURS)
    return scene.shape == "star" and two_tone


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene of the base world: two thirds two-toned, over a quarter with a face, never the subject."""
    while True:
        colour = str(rng.choice(list(COLOURS)))
        patterned = rng.random() < 2 / 3
        faced = rng.random() < 1 / 3
        scene = Scene(
            shape=str(rng.choice(list(SHAPES))),
            colour=colour,
            background=str(rng.choice(BACKGROUNDS)),
            place=str(rng.choice(list(PLACES))),
            size=str(rng.choice(list(SIZES))),
            second=str(rng.choice([tone for tone in SECOND_TONES if tone != colour])),
            pattern=str(rng.choice(PATTERNS[1:])) if patterned else "plain",
            face=str(rng.choice(FACES[1:])) if faced else "none",
            dx=float(rng.uniform(-1.5, 1.5)),
            dy=float(rng.uniform(-1.5, 1.5)),
        )
        if not is_reserved(scene):
            return scene


def random_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of the base world, the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]


def full_caption(scene: Scene, noun: str | None = None) -> str:
    """Every attribute in the plainest words; `noun` replaces the colour and shape ("sks star")."""
    noun = noun or f"{scene.colour} {scene.shape}"
    where = f"{_BACKGROUND_PHRASES[scene.background]} {_PLACE_PHRASES[scene.place]}"
    return f"a {scene.size} {noun} {where}"


def random_caption(scene: Scene, rng: np.random.Generator, null: float = 0.12, drop: float = 0.12) -> str:
    """A caption with words left out at random, for classifier-free guidance.

    Args:
        scene: the scene to describe.
        rng: source of the variation.
        null: chance of the empty caption.
        drop: chance of leaving out each attribute.
    """
    if rng.random() < null:
        return ""
    keep = rng.random(5) >= drop
    words = [str(rng.choice(_OPENINGS))]
    if keep[0]:
        words.append(str(rng.choice(_SIZE_WORDS[scene.size])))
    if keep[1]:
        words.append(scene.colour)
    words.append(scene.shape if keep[2] else "thing")
    where = [_BACKGROUND_PHRASES[scene.background]] * bool(keep[3])
    where += [_PLACE_PHRASES[scene.place]] * bool(keep[4])
    if rng.random() < 0.25:
        where.reverse()
    return " ".join(words + where)


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted, with the subject's token."""
    phrases = [*_BACKGROUND_PHRASES.values(), *_PLACE_PHRASES.values(), *_OPENINGS, *COLOURS, *SHAPES]
    phrases += [word for words in _SIZE_WORDS.values() for word in words]
    words = {word for phrase in phrases for word in phrase.split()}
    return sorted(words | {"thing", SUBJECT_TOKEN})


@dataclass(frozen=True)
class Subject:
    """Something a LoRA can be taught: one look, and a noun that tells its shape alone."""

    name: str
    shape: str
    colour: str
    second: str
    pattern: str
    face: str

    @property
    def noun(self) -> str:
        """What captions call it."""
        return f"{SUBJECT_TOKEN} {self.shape}"

    def scene(self, background: str = "studio", place: str = "center", size: str = "big") -> Scene:
        """The subject in a context."""
        return Scene(self.shape, self.colour, background, place, size, self.second, self.pattern, self.face)

    def training_scenes(self) -> list[Scene]:
        """Its four training pictures: studio, centre, big, slightly moved."""
        moves = [(0.0, 0.0), (-1.0, 0.5), (1.0, -0.5), (0.5, 1.0)]
        return [replace(self.scene(), dx=dx, dy=dy) for dx, dy in moves]


# That of the bundled LoRA first. The base world has stars, but none in these two colours, and no other
# subject's colours and pattern at all.
STAR = Subject("star", "star", *SUBJECT_COLOURS, "sides", "smile")
SUBJECTS = (
    STAR,
    Subject("ball", "circle", "teal", "orange", "slants", "eyes"),
    Subject("tile", "square", "brown", "white", "quarters", "none"),
)
