"""The WebUIs' prompt syntax that this program draws as words: named, so that nobody waits for its effect."""

from __future__ import annotations

import re

_SYNTAX = {
    "(a:1.4) attention": r"\([^()]{1,999}:\s*[-+.\d]+\s*\)",
    "(a) attention": r"(?<!\\)\([^():]{1,999}\)",
    "[a:b:0.5] editing": r"\[[^\[\]]{0,999}:\s*[.\d]+\s*\]",
    "[a|b] alternation": r"\[[^\[\]]{0,999}\|[^\[\]]{0,999}\]",
    "[a] attention": r"(?<!\\)\[[^\[\]:|]{1,999}\]",
    r"\( escapes": r"\\[()\[\]]",
    "BREAK": r"\bBREAK\b",
    "AND": r"\bAND\b",
    "{a|b} wildcards": r"\{[^{}]{0,999}\|[^{}]{0,999}\}",
    "__a__ wildcards": r"__[\w./* -]{1,99}?__",
    "<kind:name> tags": r"<\w+:[^<>]{1,999}>",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _SYNTAX.items()}


def webui_syntax(prompt: str) -> tuple[str, ...]:
    """Return what a prompt holds of the WebUIs' syntax, each kind once."""
    return tuple(name for name, pattern in _PATTERNS.items() if pattern.search(prompt))


def notice(prompt: str, negative: str) -> str:
    """Return a sentence for the user; empty where the prompts are words only."""
    found = dict.fromkeys([*webui_syntax(prompt), *webui_syntax(negative)])
    if not found:
        return ""
    return f"WebUI syntax in the prompts is drawn as words here: {', '.join(found)}"
