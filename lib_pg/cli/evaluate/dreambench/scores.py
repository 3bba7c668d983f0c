"""DreamBooth's scores of pictures: CLIP-T against their prompts, CLIP-I and DINO against the references.

All are cosines. Against the references a picture's score is the mean over all of them, so that the mean over
pictures is the mean over all pairs, as in DreamBooth's paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from lib_pg.cli.evaluate.dreambench.backbones import Backbone

CLIP_T, CLIP_I = "clip_t", "clip_i"
STEP = 1e-5  # to which results are rounded


@dataclass(frozen=True, eq=False)
class Scorer:
    """The backbones, and what they made of texts and references so far.

    Attributes:
        clip: scores prompts and references.
        others: score references, by the name of their score, such as dino.
        batch: pictures at once.
    """

    clip: Backbone
    others: dict[str, Backbone]
    batch: int = 16
    _texts: dict[str, Tensor] = field(default_factory=dict)
    _references: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def learn(self, subject: str, references: Sequence[Image.Image]) -> None:
        """Take in a subject's reference pictures."""
        self._references[subject] = {
            name: backbone.pictures(references, self.batch) for name, backbone in self._by_score().items()
        }

    def score(
        self, subject: str, prompts: Sequence[str], images: Sequence[Image.Image]
    ) -> list[dict[str, float]]:
        """Return the scores of pictures of a subject, each with its prompt (without the token)."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if new:
            self._texts.update(zip(new, self.clip.texts(new, self.batch), strict=True))
        columns: dict[str, list[float]] = {}
        for name, backbone in self._by_score().items():
            vectors = backbone.pictures(images, self.batch)
            if name == CLIP_I:
                pairs = zip(vectors, prompts, strict=True)
                columns[CLIP_T] = [float(vector @ self._texts[prompt]) for vector, prompt in pairs]
            columns[name] = (vectors @ self._references[subject][name].T).mean(dim=1).tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def told(self) -> dict[str, dict[str, Any]]:
        """Return what each score is, for the head of the records, its backbone and revision included."""
        about = {
            CLIP_T: ("CLIP-T", "cosine of picture and prompt without the token", self.clip),
            CLIP_I: ("CLIP-I", "mean cosine of picture and reference pictures", self.clip),
        }
        for name, backbone in self.others.items():
            about[name] = (name.upper(), "mean cosine of picture and reference pictures", backbone)
        return {
            name: {"called": called, "about": f"{what}, by {backbone.told}", "step": STEP}
            for name, (called, what, backbone) in about.items()
        }

    def _by_score(self) -> dict[str, Backbone]:
        return {CLIP_I: self.clip, **self.others}
