"""The one model of a server, and the one drawing at a time that it is used for."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from lib_pg.cli.generate.drawing import prepare
from lib_pg.cli.output import output_folder, save_new
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.cli.serve.wanted import Wanted


class Cancelled(Exception):
    """The visitor whose pictures they are has cancelled them."""


class Studio:
    """Keeps the last checkpoint loaded, and draws for one visitor after the other.

    Args:
        out: where the pictures go.
        config: a diffusers folder for single-file checkpoints; None where diffusers may fetch one.
    """

    def __init__(self, out: Path, config: Path | None, device: str) -> None:
        self._out = out
        self._config = config
        self._device = device
        self._key: Any = None
        self._pipeline: Any = None
        self._scheduler: Any = None
        self._busy = threading.Lock()
        self._visitor = ""
        self._cancelled = threading.Event()

    def draw(
        self,
        wanted: Wanted,
        visitor: str,
        progress: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> Iterator[Path]:
        """Yield each picture's file as it is written.

        Args:
            visitor: whose pictures they are, for `cancel`.
            progress: is told how many of how many steps are done.
            say: is told what will happen, and what is not as it may be expected.

        Raises:
            Cancelled: the visitor has done so.
            UsageError: a file cannot be used, or nothing can be written.
        """
        with self._busy, torch.no_grad(), output_folder(self._out, "--out"):
            self._visitor = visitor
            self._cancelled.clear()
            try:
                yield from self._draw(wanted, progress, say)
            finally:
                self._visitor = ""

    def cancel(self, visitor: str) -> bool:
        """End the drawing of a visitor after the current step; return whether there is one."""
        if visitor and visitor == self._visitor:
            self._cancelled.set()
            return True
        return False

    def _draw(
        self, wanted: Wanted, progress: Callable[[int, int], None], say: Callable[[str], None]
    ) -> Iterator[Path]:
        job = wanted.job
        total = job.steps * wanted.count
        drawing = prepare(self._loaded(wanted.files.checkpoint, job.dtype), job, wanted.files, say)
        for sentence in drawing.describe():
            say(sentence)
        with drawing.installed():
            for number in range(wanted.count):

                def on_step(step: int, done: int = number * job.steps) -> None:
                    progress(done + step + 1, total)
                    if self._cancelled.is_set():
                        raise Cancelled

                for index, picture in enumerate(drawing.batch(number, on_step)):
                    yield save_new(picture, self._out, job.seed + number * job.batch + index)

    def _loaded(self, checkpoint: Path, dtype: str) -> Any:
        """Return the pipeline of a checkpoint as it was loaded, with its own scheduler."""
        file = checkpoint / "model_index.json" if checkpoint.is_dir() else checkpoint
        key = checkpoint, file.stat().st_mtime_ns, dtype
        if key != self._key:
            self._key = self._pipeline = self._scheduler = None  # two might not fit
            gc.collect()
            self._pipeline = load_pipeline(checkpoint, self._config, self._device, dtype)
            self._pipeline.set_progress_bar_config(disable=True)
            self._key, self._scheduler = key, self._pipeline.scheduler
        self._pipeline.scheduler = self._scheduler
        return self._pipeline
