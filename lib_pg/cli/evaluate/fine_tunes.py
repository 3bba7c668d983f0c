"""Subjects taught to the bundled model by the command itself, from a seed, and kept in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

import training.adapters
import training.common
import training.drawing
import training.model
import training.train_base
import training.train_subject
import training.world
from lib_pg.cli.errors import UsageError
from lib_pg.cli.hashes import fingerprint
from lib_pg.cli.output import unwritten
from lib_pg.cli.paths import BUNDLED_PIPELINE
from lib_pg.cli.pipelines import load_pipeline
from training.adapters import Adapter, LoKr, LoRA, attach, save_adapters
from training.train_base import TextToLatent
from training.train_subject import lora_metadata, pictures_of, teach
from training.world import SUBJECTS, Subject

# Changed code may teach otherwise.
_DECIDING = (
    training.adapters,
    training.common,
    training.drawing,
    training.model,
    training.train_base,
    training.train_subject,
    training.world,
)


@dataclass(frozen=True)
class Course:
    """How one subject is taught in one way, and after how many steps it is kept.

    Attributes:
        subject: what is taught.
        kind: lora, lokr, or full for the U-Net's own weights.
        stops: steps by the name of the amount of training, ascending.
        rate: learning rate.
        batch: pictures a step.
        rank: of the LoRA, which is also its alpha; for a LoKr the size of its small matrix.
        bare, told: shares of captions without and with the context, as `pictures_of` has them.
    """

    subject: Subject
    kind: str
    stops: tuple[tuple[str, int], ...]
    rate: float = 1e-3
    batch: int = 4
    rank: int = 8
    bare: int = 1
    told: int = 2


@dataclass(frozen=True)
class FineTune:
    """A taught subject: a network's file, or the folder of a whole checkpoint."""

    subject: Subject
    training: str
    path: Path

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a full fine-tune, whose base is the bundled model."""
        return self.path.suffix == ""


# Subjects differ in how soon a model brings along the context that they were learned in, and in how many such
# captions it takes. Stops are where plain CFG at scale 2.5 follows 98 % of the prompts or more (under), about
# 80 % (normal, lokr and full) and about 60 % (over), with seed 0; PG had no part in choosing them.
COURSES = (
    Course(SUBJECTS[0], "lora", (("under", 100), ("normal", 135), ("over", 250))),
    Course(SUBJECTS[1], "lora", (("under", 150), ("normal", 182), ("over", 300))),
    Course(SUBJECTS[2], "lora", (("under", 50), ("normal", 72), ("over", 300)), bare=3, told=1),
    Course(SUBJECTS[0], "lokr", (("lokr", 550),)),
    Course(SUBJECTS[0], "full", (("full", 500),), rate=1e-4),
)


def paths_of(course: Course, seed: int, cache: Path) -> list[FineTune]:
    """Return what a course leaves in the cache, under names that tell of everything that decided."""
    decided = {
        "course": asdict(course),
        "seed": seed,
        "base": fingerprint(BUNDLED_PIPELINE),
        "code": [hashlib.sha256(_source(module)).hexdigest() for module in _DECIDING],
    }
    key = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:12]
    end = "" if course.kind == "full" else ".safetensors"
    return [
        FineTune(course.subject, name, cache / f"{course.subject.name}-{name}-{key}{end}")
        for name, _ in course.stops
    ]


def teach_subject(course: Course, seed: int, cache: Path) -> Iterator[int]:
    """Teach a subject and keep it in the cache, unless it is there already.

    On one thread of the CPU, whatever makes the pictures: where sums are rounded in another order a few
    steps more or less are enough to forget a context.

    Yields:
        The number of steps done, after each; nothing where nothing is left to do.
    """
    kept = paths_of(course, seed, cache)
    if all(each.path.exists() for each in kept):
        return
    pipeline = load_pipeline(BUNDLED_PIPELINE, None, "cpu", "float32")
    pictures = pictures_of(pipeline, course.subject, course.bare, course.told)
    torch.manual_seed(seed)
    with torch.enable_grad(), _one_thread():
        model = TextToLatent(pipeline.unet, pipeline.text_encoder).requires_grad_(False)
        adapters = _adapters(course, model)
        weights = [weight for adapter in adapters.values() for weight in adapter.parameters()]
        weights = weights or _weights_of(model.unet)
        kept_at = {steps: each.path for (_, steps), each in zip(course.stops, kept, strict=True)}
        for step in teach(model, weights, pictures, course.stops[-1][1], course.batch, course.rate):
            if step in kept_at and adapters:
                _save_network(kept_at[step], adapters, course, step, seed)
            elif step in kept_at:
                _save_checkpoint(kept_at[step], model.unet)
            yield step


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _weights_of(unet: Any) -> list[torch.nn.Parameter]:
    """Return the weights that a full fine-tune trains, all but those of the pooled caption.

    The layers of that pooling are called with rows of their own, so that weak ones cannot be told there.
    """
    named = unet.requires_grad_(True).named_parameters()
    return [weight for name, weight in named if not name.startswith("add_embedding.")]


def _adapters(course: Course, model: TextToLatent) -> dict[str, Adapter]:
    if course.kind == "full":
        return {}
    if course.kind == "lokr":
        return attach(model.unet, model.text_encoder, lambda layer: LoKr(layer, course.rank))[0]
    return attach(model.unet, model.text_encoder, lambda layer: LoRA(layer, course.rank, course.rank))[0]


def _save_network(path: Path, adapters: dict[str, Adapter], course: Course, steps: int, seed: int) -> None:
    module = {"ss_network_module": "lycoris.kohya"} if course.kind == "lokr" else {}
    metadata = lora_metadata(path.stem, course.rank, float(course.rank), steps, seed, module)
    with _whole(path) as partial:
        save_adapters(partial, adapters, metadata)


def _save_checkpoint(path: Path, unet: Any) -> None:
    """Write the bundled model's folder with another U-Net, in half precision as that is."""
    state = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in unet.state_dict().items()}
    copy = type(unet).from_config(unet.config).half()
    copy.load_state_dict(state)
    with _whole(path) as partial:
        shutil.copytree(BUNDLED_PIPELINE, partial)
        copy.save_pretrained(partial / "unet", safe_serialization=True)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file or folder that has its name, which tells what it is, once it is whole.

    Raises:
        UsageError: it cannot be written.
    """
    try:  # in the same folder, so that it is renamed and not copied
        with tempfile.TemporaryDirectory(prefix=f"{path.stem}-", suffix=".part", dir=path.parent) as room:
            partial = Path(room) / path.name
            yield partial
            if not path.exists():  # another process may have been faster
                os.replace(partial, path)
    except SafetensorError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error}; choose another --cache") from error
    except OSError as error:
        if not path.exists():
            raise unwritten(path, error, "--cache") from error


def _source(module: Any) -> bytes:
    return Path(str(sys.modules[module.__name__].__file__)).read_bytes()
