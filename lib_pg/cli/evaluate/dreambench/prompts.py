"""Lists of prompts: DreamBench's `prompts_and_classes.txt`, plain lines, and the captions of DreamBench++."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_pg.cli.errors import UsageError

OWN = Path(__file__).parent / "prompts.txt"

_MAX_BYTES = 1 << 20
_PROMPTS_MAX = 1000
_LENGTH_MAX = 1000
_HEADINGS = {"object prompts": "objects", "live subject prompts": "live", "classes": "classes"}
# A line of Python as in DreamBench's file; it is read, never run.
_QUOTED = re.compile(r"""(['"])(?P<text>.*)\1\s*\.format\([\w\s,]*\)\s*,?""")
_CLASS = re.compile(r"(?P<name>[^,]+),(?P<word>[^,]+)")
_BETWEEN = ("prompts", "subject_name,class", "prompt_list = [", "]", "")


@dataclass(frozen=True)
class Prompt:
    """What is drawn and what a picture is scored against; the latter has no token, which CLIP cannot know."""

    told: str
    scored: str


@dataclass(frozen=True)
class Templates:
    """Prompts with {0} for the token and {1} for the class word.

    Attributes:
        objects, live: for things, and for animals and people.
        classes: class words by subject, where the file says them.
    """

    objects: tuple[str, ...]
    live: tuple[str, ...]
    classes: Mapping[str, str] = field(default_factory=dict)

    def for_subject(self, token: str, word: str, live: bool) -> list[Prompt]:
        return [filled(each, token, word) for each in (self.live if live else self.objects)]


def filled(template: str, token: str, word: str) -> Prompt:
    """Return a template with its token and class word; without a token nothing is left in its place."""
    told, scored = (
        " ".join(template.replace("{0}", name).replace("{1}", word).split()) for name in (token, "")
    )
    return Prompt(told, scored)


def with_token(caption: str, token: str, word: str) -> Prompt:
    """Return a caption with the token before the class word, where it names that."""
    scored = " ".join(caption.split())
    there = re.search(rf"\b{re.escape(word)}\b", scored, re.IGNORECASE)
    if not token or there is None:
        return Prompt(scored, scored)
    return Prompt(f"{scored[: there.start()]}{token} {scored[there.start() :]}", scored)


def read_templates(path: Path) -> Templates:
    """Read DreamBench's file, or lines of `a {0} {1} in the snow` with or without its headings.

    Raises:
        UsageError: it cannot be read, is no such list, or is too long.
    """
    found: dict[str, list[str]] = {"objects": [], "live": []}
    classes: dict[str, str] = {}
    section = ""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        line = line.strip()
        if line.lower() in _HEADINGS:
            section = _HEADINGS[line.lower()]
        elif line.lower() in _BETWEEN:
            continue
        elif section == "classes":
            pair = _CLASS.fullmatch(line)
            if pair is None:
                raise UsageError(f"{path.name}, line {number}: {line[:60]!r} is no `subject,class`")
            classes[pair["name"].strip()] = pair["word"].strip()
        else:
            template = _template(path, number, line)
            for name in (section,) if section else ("objects", "live"):
                found[name].append(template)
    if not any(found.values()):
        raise UsageError(f"{path.name} has no prompts; write lines such as: a {{0}} {{1}} in the snow")
    objects, live = found["objects"] or found["live"], found["live"] or found["objects"]
    return Templates(_checked(path, objects), _checked(path, live), classes)


def read_captions(path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the subject's name and the captions of a text of DreamBench++: a line each.

    Raises:
        UsageError: it cannot be read, or has fewer than two lines.
    """
    lines = [" ".join(line.split()) for line in text_of(path).splitlines() if line.strip()]
    if len(lines) < 2:
        raise UsageError(
            f"{str(path)!r} has {len(lines)} lines; the first is the subject's name, then prompts"
        )
    return lines[0], _checked(path, lines[1:])


def text_of(path: Path, limit: int = _MAX_BYTES) -> str:
    """Return a small text file.

    Raises:
        UsageError: it cannot be read, is over `limit` bytes, or is no UTF-8.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise UsageError(f"{str(path)!r} is over {limit >> 10} KiB; it is to hold a few lines of text")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise UsageError(f"{os.fspath(path)!r} is no UTF-8 text") from error


def _template(path: Path, number: int, line: str) -> str:
    quoted = _QUOTED.fullmatch(line)
    template = quoted["text"] if quoted else line
    left = template.replace("{0}", "").replace("{1}", "")
    if "{1}" not in template or "{" in left or "}" in left or ".format(" in template:
        raise UsageError(
            f"{path.name}, line {number}: {line[:60]!r} is no prompt; write {{0}} for the token, {{1}} for "
            "the class word, and no other braces"
        )
    return template


def _checked(path: Path, prompts: list[str]) -> tuple[str, ...]:
    different = tuple(dict.fromkeys(prompts))
    if len(different) > _PROMPTS_MAX or max(map(len, different)) > _LENGTH_MAX:
        raise UsageError(
            f"{path.name} has {len(different)} prompts, the longest of {max(map(len, different))} letters; "
            f"at most {_PROMPTS_MAX} of {_LENGTH_MAX} are read"
        )
    return different
