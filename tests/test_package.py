"""What `pip install .` installs: the package, all of it, and nothing of tests or training."""

from __future__ import annotations

import importlib
from pathlib import Path

from setuptools import find_packages
from setuptools.config.pyprojecttoml import read_configuration

ROOT = Path(__file__).resolve().parent.parent
PROJECT = read_configuration(ROOT / "pyproject.toml", expand=False)


def test_all_of_the_package_and_nothing_else_is_installed() -> None:
    included = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = {path.parent for path in ROOT.glob("lib_pg/**/*.py")}
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(find_packages(str(ROOT), include=included)) == expected


def test_every_file_beside_the_code_is_installed() -> None:
    cli = ROOT / "lib_pg" / "cli"
    found: set[Path] = set()
    for pattern in PROJECT["tool"]["setuptools"]["package-data"]["lib_pg.cli"]:
        found |= {path for path in cli.glob(pattern) if path.is_file()}
    files = {path for path in (ROOT / "lib_pg").rglob("*") if path.is_file()}
    assert found == {path for path in files if path.suffix not in (".py", ".pyc")}


def test_the_command_is_the_program() -> None:
    module, _, name = PROJECT["project"]["scripts"]["pg"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
