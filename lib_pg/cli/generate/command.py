"""`python -m lib_pg generate`: pictures from a checkpoint and LoRA files, with guidance."""

from __future__ import annotations

import argparse
import sys

import torch

from lib_pg.cli.devices import check_device
from lib_pg.cli.generate.asked import Asked, asked_for
from lib_pg.cli.generate.drawing import Files, prepare
from lib_pg.cli.generate.record import Provenance
from lib_pg.cli.output import output_folder, save_new
from lib_pg.cli.pipelines import load_pipeline


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    torch.set_grad_enabled(False)
    asked = asked_for(options)
    for notice in asked.notices:
        _warn(notice)
    with output_folder(options.out, "--out"):
        check_device(options.device)
        pipeline = load_pipeline(options.checkpoint, options.config, options.device, asked.job.dtype)
        pipeline.set_progress_bar_config(desc="sampling", leave=False)
        files = Files(options.checkpoint, options.base_checkpoint)
        drawing = prepare(pipeline, asked.job, files, _warn)
        _compare(asked, drawing.files)
        base = [drawing.base.describe()] if drawing.base else []
        for line in [*base, *drawing.describe()]:
            print(line, file=sys.stderr)
        first = drawing.job.seed
        with drawing.installed():
            for number in range(options.count):
                for index, picture in enumerate(drawing.batch(number)):
                    if asked.position in (None, index):
                        print(save_new(picture, options.out, first + number * drawing.job.batch + index))
    return 0


def _compare(asked: Asked, files: Provenance) -> None:
    """Warn where a picture is repeated with another checkpoint than it was made with."""
    wanted = asked.picture
    if wanted is not None and wanted.model_hash and wanted.model_hash != files.model_hash:
        _warn(f"the picture was made with model {wanted.model!r} ({wanted.model_hash}), not {files.model!r}")


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
