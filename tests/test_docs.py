"""README and docs: links that resolve, and commands that run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lib_pg.cli.main import _parser, main
from tools.run import JOBS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Named in prose, or indented as a block; a backslash goes on in the next line.
COMMAND = re.compile(r"-m ((?:lib_pg|benchmarks|tests)\b(?:[^`\n\\]|\\\n)*)")
# What a page leaves to the reader.
OPEN = re.compile(r"\.\.\.|COMMAND|FOLDER|FILE\b|\bPATH\b|sd15\.safetensors|--report$")


def text(page: Path) -> str:
    return page.read_text("utf-8")


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def commands(page: Path) -> list[list[str]]:
    found = [match.replace("\\\n", " ") for match in COMMAND.findall(text(page))]
    return [shlex.split(command) for command in found]


def test_there_are_pages_with_links_and_commands() -> None:
    assert len(PAGES) > 10
    assert sum(len(LINK.findall(text(page))) for page in PAGES) > 40
    assert sum(len(commands(page)) for page in PAGES) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_resolves(page: Path) -> None:
    lost = []
    for link in LINK.findall(text(page)):
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    for module, *arguments in commands(page):
        assert any((ROOT / module.replace(".", "/")).with_suffix(end).exists() for end in ("", ".py")), module
        if module == "lib_pg" and arguments and not OPEN.search(" ".join(arguments)):
            _parser().parse_args(arguments)
    for job in re.findall(r"(?:`|^    )make (\w+)", text(page), flags=re.M):
        assert job in JOBS


STANDALONE = [
    arguments
    for page in (ROOT / "README.md", ROOT / "docs" / "standalone.md")
    for module, *arguments in commands(page)
    if module == "lib_pg" and arguments[:1] in (["generate"], ["grid"], ["inspect"])
    and not OPEN.search(" ".join(arguments)) and "--" in " ".join(arguments)
]  # fmt: skip


@pytest.mark.parametrize("arguments", STANDALONE, ids=lambda arguments: " ".join(arguments)[:60])
def test_the_commands_of_the_standalone_program_run(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one sampling step, and into another folder."""
    monkeypatch.chdir(ROOT)
    drawn = [] if arguments[0] == "inspect" else ["--steps", "2", "--out", str(tmp_path)]
    assert main([*arguments, *drawn]) == 0
