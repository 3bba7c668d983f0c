"""Results to a page with its plots."""

from __future__ import annotations

import os
from pathlib import Path

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.records import load
from lib_pg.cli.evaluate.report.bootstrap import DRAWS
from lib_pg.cli.evaluate.report.compare import compare
from lib_pg.cli.evaluate.report.page import page
from lib_pg.cli.evaluate.report.study import study_of
from lib_pg.cli.output import output_folder, replace_file

PREFIX = "evidence"


def write_report(results: Path, folder: Path, prefix: str = PREFIX, draws: int = DRAWS) -> Path:
    """Write PREFIX.md and its plots, PREFIX-*.png, into a folder and return the page's path.

    A picture grid is shown where it lies there, or beside the results, as PREFIX-pictures.png.

    Args:
        results: JSON file as `records.save` writes it.

    Raises:
        UsageError: the results cannot be read or compared, matplotlib is missing, or nothing can be written.
    """
    try:
        from lib_pg.cli.evaluate.report.plots import plot
    except ImportError as error:
        raise UsageError(f"plots need matplotlib: {error}; install what requirements.txt lists") from error
    study = study_of(load(results))
    comparisons = compare(study, draws)
    with output_folder(folder, "--docs"):
        files = plot(study, comparisons, folder, prefix)
        pictures = f"{prefix}-pictures.png"
        beside = results.parent / pictures
        if beside.is_file() and beside.resolve() != (folder / pictures).resolve():
            replace_file(folder / pictures, beside.read_bytes())
        files += [pictures] if (folder / pictures).is_file() else []
        path = folder / f"{prefix}.md"
        source = Path(os.path.relpath(results, folder)).as_posix()
        replace_file(path, page(study, comparisons, source, files, prefix).encode())
    return path
