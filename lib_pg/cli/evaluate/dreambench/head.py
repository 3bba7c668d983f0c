"""The head of a run: everything that decides a picture of the user's subjects or a score of it."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from lib_pg import __version__
from lib_pg.cli.evaluate.dreambench.artist import Artist, How
from lib_pg.cli.evaluate.dreambench.prompts import Prompt
from lib_pg.cli.evaluate.dreambench.scores import CLIP_T, Scorer
from lib_pg.cli.evaluate.dreambench.subjects import Subject
from lib_pg.cli.evaluate.methods import Method, described
from lib_pg.cli.evaluate.records import Head, head_of


def head_for(
    options: argparse.Namespace,
    how: How,
    artist: Artist,
    subjects: Sequence[Subject],
    methods: tuple[Method, ...],
    scorer: Scorer,
) -> Head:
    """Return everything that decides a picture or a score."""
    models = {subject.name: _told(subject, how, artist) for subject in subjects}
    return head_of(
        "dreambench", __version__, how.steps, described(methods), models, scorer.told(),
        axes={"alignment": CLIP_T, "fidelity": options.fidelity},
        sampler=how.sampler, size=_size(how), dtype=how.dtype, count=options.count, seed=options.seed,
        command="python -m lib_pg evaluate --protocol dreambench",
        machine={"device": how.device, "torch": torch.__version__},
    )  # fmt: skip


def _size(how: How) -> str:
    if how.width is None and how.height is None:
        return "the model's own"
    return " x ".join("its own" if side is None else str(side) for side in (how.width, how.height))


def _told(subject: Subject, how: How, artist: Artist) -> str:
    """Return a subject's class, training, weights, references and prompts, with their content hashes."""
    models = how.models_of(subject)
    weights = {
        "checkpoint": models.checkpoint, "config": how.config, "LoRA": models.lora, "base": models.base,
    }  # fmt: skip
    files = [
        f"{what} {path.name} {artist.hash_of(path)}" for what, path in weights.items() if path is not None
    ]
    strength = [f"strength {_exact(models.strength)}"] if models.lora is not None else []
    references = f"{len(subject.references)} pictures {_hash_of_pictures(subject.references)}"
    prompts = f"{len(subject.prompts)} prompts {_hash_of_prompts(subject.prompts)}"
    named = [f"class {subject.word}", f"training {subject.training}"]
    return ", ".join([*named, *files, *strength, references, prompts])


def _exact(strength: float) -> str:
    return repr(strength).removesuffix(".0")


def _hash_of_pictures(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _hash_of_prompts(prompts: Sequence[Prompt]) -> str:
    """Return a hash of what is drawn and of what it is scored against, of which a record has the former."""
    both = [(prompt.told, prompt.scored) for prompt in prompts]
    return hashlib.sha256(json.dumps(both).encode()).hexdigest()[:16]
