"""`python -m lib_pg generate`: pictures from a checkpoint and LoRA files, with guidance."""

from __future__ import annotations

import argparse

import torch

from lib_pg.cli.generate.asked import asked_for
from lib_pg.cli.generate.studio import Studio, say, warn
from lib_pg.cli.output import output_folder, save_new


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    torch.set_grad_enabled(False)
    asked = asked_for(options)
    for notice in asked.notices:
        warn(notice)
    with output_folder(options.out, "--out"):
        for made in Studio(say, warn).made(asked, options):
            print(save_new(made.png, options.out, made.seed))
    return 0
