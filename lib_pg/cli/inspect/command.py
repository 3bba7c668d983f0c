"""`python -m lib_pg inspect`: what a file is, and what of it can be weakened."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from lib_pg.cli.inspect.checkpoints import about_checkpoint, about_folder
from lib_pg.cli.inspect.facts import About
from lib_pg.cli.inspect.networks import about_network
from lib_pg.cli.inspect.vaes import about_vae, is_vae
from lib_pg.cli.pipelines import INDEX, UNET_PREFIX
from lib_pg.cli.refused import in_one_line
from lib_pg.formats.container import open_container
from lib_pg.formats.errors import printable
from lib_pg.formats.outline import outline_network


def run(options: argparse.Namespace) -> int:
    """Carry out the subcommand and return its exit code."""
    with in_one_line():
        about = about_file(options.file)
    if options.json:
        print(json.dumps(about.facts, indent=2))  # with escapes: a file's text cannot move a cursor
        return 0
    print(f"{printable(about.name)}: {about.title}")
    width = max(len(label) for label, _ in about.lines)
    for label, text in about.lines:
        print(f"  {label:{width}}  {text}")
    return 0


def about_file(path: Path) -> About:
    """Return what is known of a file or folder.

    Raises:
        NetworkError: it is missing, damaged, hostile, or nothing that is known here.
    """
    if os.path.isdir(path):  # the method raises where a name is too long
        return about_folder(path) if os.path.isfile(path / INDEX) else about_network(path)
    if not outline_network(path).kinds:
        with open_container(path, path.stem) as container:
            names = list(container.tensors)
        if is_vae(names):
            return about_vae(path)
        if any(name.startswith(UNET_PREFIX) for name in names):
            return about_checkpoint(path)
    return about_network(path)
