"""`python -m lib_pg evaluate --protocol dreambench`: the user's subjects, scored by CLIP and DINO.

Pictures are kept by their content hash, records by that of all that decides a score: a run that was stopped
goes on, and another backbone scores the same pictures. With `accelerate launch` each process takes a share.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from lib_pg.cli.devices import check_device
from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.dreambench.artist import Artist, How, Model, Shot
from lib_pg.cli.evaluate.dreambench.backbones import load_backbone
from lib_pg.cli.evaluate.dreambench.head import head_for
from lib_pg.cli.evaluate.dreambench.options import NONE
from lib_pg.cli.evaluate.dreambench.prompts import OWN
from lib_pg.cli.evaluate.dreambench.scores import Scorer
from lib_pg.cli.evaluate.dreambench.subjects import Subject, read_subjects
from lib_pg.cli.evaluate.methods import METHODS, Method
from lib_pg.cli.evaluate.part_files import Part, finished, merged, part_file, run_of
from lib_pg.cli.evaluate.records import Head, Key, Record, load, save
from lib_pg.cli.evaluate.report.pictures import best_scales, write_grid
from lib_pg.cli.evaluate.report.study import Study, study_of
from lib_pg.cli.evaluate.report.write import PREFIX, write_report
from lib_pg.cli.output import output_folder
from lib_pg.cli.picture_files import FORMATS
from lib_pg.cli.shares import Share, own_share

_PIXELS_MAX = 80_000_000
_BYTES_MAX = 64 << 20
_GRID_SUBJECTS = 4
_GRID_METHODS = 8


def run(options: argparse.Namespace) -> int:
    """Carry out the protocol and return the exit code."""
    torch.set_grad_enabled(False)
    if options.subjects is None:
        raise UsageError("--protocol dreambench needs your subjects; give their folder with --subjects")
    methods = chosen(options.methods, options.scales)
    subjects = read_subjects(options.subjects, options.prompts, OWN, options.token)
    share = own_share()
    device = share.device(options.device)
    check_device(device)
    how = How(
        options.checkpoint, options.config, options.base_checkpoint, options.steps, options.sampler,
        options.width, options.height, options.dtype, device,
    )  # fmt: skip
    for subject in subjects:  # what is missing is said before the work, not in its midst
        how.models_of(subject)
        for path in subject.references:
            check_reference(path)
    with output_folder(options.out, "--out"):
        artist = Artist(how, options.out / "pictures", _warn_once())
        scorer = _scorer(options, device)
        head = head_for(options, how, artist, subjects, methods, scorer)
        work = _Work(options, artist, scorer, subjects, methods, head)
        work.do(share)
        if work.is_done():
            work.report()
        else:  # others are at it; the last one to end reports
            print("this process has done its share", file=sys.stderr)
    return 0


def chosen(names: Sequence[str], scales: tuple[float, ...]) -> tuple[Method, ...]:
    """Return methods by name, at these scales.

    Raises:
        UsageError: a name is not known, or there is none.
    """
    known = {method.name: method for method in METHODS}
    if not names or (unknown := [name for name in names if name not in known]):
        problem = f"method {unknown[0][:60]!r} is not known" if names else "no method is named"
        raise UsageError(f"{problem}; choose with --methods from {'; '.join(known)}")
    return tuple(replace(known[name], scales=scales) for name in names)


class _Work:
    """All pictures of a run: which they are, and those that are still to be made."""

    def __init__(
        self,
        options: argparse.Namespace,
        artist: Artist,
        scorer: Scorer,
        subjects: Sequence[Subject],
        methods: Sequence[Method],
        head: Head,
    ) -> None:
        self._options = options
        self._artist = artist
        self._batch = options.batch
        self._scorer = scorer
        self._subjects = subjects
        self._methods = methods
        self._head = head
        self._folder = options.out / "records" / run_of(head)

    def do(self, share: Share) -> None:
        """Make and score this process's share of what is missing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        done = finished(self._folder, self._head)
        bar = tqdm(total=self._total(), initial=len(done), desc="pictures", disable=share.index > 0)
        with part_file(self._folder, share.index, self._head) as part, bar:
            for subject in self._subjects:
                chunks = share.of(list(self._chunks(subject)))
                if all(key in done for chunk in chunks for key in self._keys(subject, chunk)):
                    continue
                self._scorer.learn(subject.name, [read_reference(path) for path in subject.references])
                with self._artist.at_work(subject) as model:
                    for chunk in chunks:
                        self._chunk(subject, model, chunk, done, part, bar)

    def is_done(self) -> bool:
        return len(finished(self._folder, self._head)) == self._total()

    def report(self) -> None:
        """Write results, picture grid and page, and print where they are."""
        results, path = merged(self._folder, self._head), self._options.out / "results.json"
        save(results, path)
        self._grid(study_of(load(path)))  # rounded, as the page has them: both name the same best scales
        print(path)
        print(write_report(path, self._options.out))

    def _chunk(
        self, subject: Subject, model: Model, shots: Sequence[Shot], done: set[Key], part: Part, bar: Any
    ) -> None:
        """Make the same pictures with every method, so that what is done can be compared at any time."""
        for method in self._methods:
            for scale in method.scales:
                left = [shot for shot in shots if _key(subject, method, scale, shot) not in done]
                if not left:
                    continue
                images = model.pictures(method, scale, left)
                scores = self._scorer.score(subject.name, [shot.prompt.scored for shot in left], images)
                part.add(
                    Record(*_key(subject, method, scale, shot), scores=each)
                    for shot, each in zip(left, scores, strict=True)
                )
                bar.update(len(left))

    def _chunks(self, subject: Subject) -> Iterator[list[Shot]]:
        first = self._options.seed
        shots = [
            Shot(prompt, seed)
            for seed in range(first, first + self._options.count)
            for prompt in subject.prompts
        ]
        for start in range(0, len(shots), self._batch):
            yield shots[start : start + self._batch]

    def _keys(self, subject: Subject, shots: Sequence[Shot]) -> Iterator[Key]:
        for method in self._methods:
            for scale in method.scales:
                yield from (_key(subject, method, scale, shot) for shot in shots)

    def _total(self) -> int:
        shots = sum(len(subject.prompts) for subject in self._subjects) * int(self._options.count)
        return shots * sum(len(method.scales) for method in self._methods)

    def _grid(self, study: Study) -> None:
        """Write the grid that the page shows: a prompt of some subjects of one training with every method."""
        shown = self._methods[:_GRID_METHODS]
        training = self._subjects[0].training
        group = next(each for each in study.groups if each.training == training)
        scales, rows = best_scales(study, group), []
        subjects = [subject for subject in self._subjects if subject.training == training]
        for number, subject in enumerate(subjects[:_GRID_SUBJECTS]):
            shot = Shot(subject.prompts[number % len(subject.prompts)], self._options.seed)
            with self._artist.at_work(subject) as model:
                pictures = [model.pictures(method, scales[method.name], [shot])[0] for method in shown]
            rows.append((shot.prompt.told, [read_reference(subject.references[0]), *pictures]))
        columns = ["reference", *(f"{method.name} at {scales[method.name]:g}" for method in shown)]
        write_grid(
            self._options.out / f"{PREFIX}-pictures.png",
            f"Training: {training}; every method at its own best scale",
            [],
            columns,
            rows,
            run_of(self._head),
        )


def _key(subject: Subject, method: Method, scale: float, shot: Shot) -> Key:
    return subject.name, subject.training, method.name, scale, shot.prompt.told, shot.seed


def _scorer(options: argparse.Namespace, device: str) -> Scorer:
    others = {"dino": load_backbone(options.dino, ("vit", "dinov2"), device, "--dino")}
    if options.dinov2 != NONE:
        others["dinov2"] = load_backbone(options.dinov2, ("dinov2",), device, "--dinov2")
    elif options.fidelity == "dinov2":
        raise UsageError("--fidelity is dinov2, and --dinov2 none; choose another of them")
    return Scorer(load_backbone(options.clip, ("clip",), device, "--clip"), others)


def check_reference(path: Path) -> None:
    """Look at a reference picture's size without decoding it; raises as `read_reference`."""
    with _opened(path):
        pass


def read_reference(path: Path) -> Image.Image:
    """Return a reference picture, upright, in RGB.

    Raises:
        UsageError: it is no picture that can be read, or has over 80 million pixels or 64 MiB.
    """
    with _opened(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise UsageError(f"{str(path)!r} is over {_BYTES_MAX >> 20} MiB; make it smaller")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > _PIXELS_MAX:
                raise UsageError(
                    f"{str(path)!r} has {image.width} x {image.height} pixels; at most {_PIXELS_MAX:,} "
                    "are read"
                )
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{str(path)!r} cannot be read as a picture: {reason}") from error


def _warn_once() -> Callable[[str], None]:
    said: set[str] = set()

    def warn(message: str) -> None:
        if message not in said:
            said.add(message)
            tqdm.write(f"warning: {message}", file=sys.stderr)

    return warn
