"""Results to a page with its plots."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.part_files import run_of
from lib_pg.cli.evaluate.records import load
from lib_pg.cli.evaluate.report.bootstrap import DRAWS
from lib_pg.cli.evaluate.report.compare import compare
from lib_pg.cli.evaluate.report.page import page
from lib_pg.cli.evaluate.report.pictures import is_grid_of
from lib_pg.cli.evaluate.report.study import study_of
from lib_pg.cli.output import output_folder, replace_file

PREFIX = "evidence"


def write_report(
    results: Path, folder: Path, prefix: str = PREFIX, draws: int = DRAWS, option: str = "--out"
) -> Path:
    """Write PREFIX.md and its plots, PREFIX-*.png, into a folder and return the page's path.

    A grid of the same run's pictures is shown where it lies there, or beside the results, as
    PREFIX-pictures.png.

    Args:
        results: JSON file as `records.save` writes it.
        option: the command line's name for the folder, for messages.

    Raises:
        UsageError: the results cannot be read or compared, matplotlib is missing, or nothing can be written.
    """
    try:
        from lib_pg.cli.evaluate.report.plots import plot
    except ImportError as error:
        raise UsageError(f"plots need matplotlib: {error}; install what requirements.txt lists") from error
    study = study_of(load(results))
    comparisons = compare(study, draws)
    with output_folder(folder, option):
        files = plot(study, comparisons, folder, prefix, option)
        pictures = f"{prefix}-pictures.png"
        beside, there, run = results.parent / pictures, folder / pictures, run_of(study.head)
        if is_grid_of(beside, run) and beside.resolve() != there.resolve():
            replace_file(there, beside.read_bytes(), option)
        if is_grid_of(there, run):
            files.append(pictures)
        elif os.path.exists(there):
            print(f"warning: {there} is not of these results; the page does not show it", file=sys.stderr)
        path = folder / f"{prefix}.md"
        text = page(study, comparisons, _seen_from(folder, results), files, prefix)
        replace_file(path, text.encode("utf-8", "backslashreplace"), option)
    return path


def _seen_from(folder: Path, results: Path) -> str:
    try:
        return Path(os.path.relpath(results, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return results.resolve().as_posix()
