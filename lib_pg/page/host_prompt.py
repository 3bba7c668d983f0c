"""Prompts as the host will read them: its styles applied, its comments taken out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lib_pg.hosts.webui.network_files import available_networks
from lib_pg.prompt import parse_networks

_TAG = re.compile(r"<[^<>]*>")
_COMMENT = re.compile(r"#[^\n]*(?:\n|$)")
# What extensions for wildcards and dynamic prompts fill in when the picture is made.
_FILLED_IN = re.compile(r"__[^\s_]|\{[^{}]*\|")


def prompt_as_read(prompt: str, styles: Sequence[str]) -> str:
    """Return a prompt with its styles, and the network that the host's settings add to all of them."""
    return _with_added_network(_without_comments(_styled(prompt, styles, "apply_styles_to_prompt")))


def negative_as_read(negative: str, styles: Sequence[str]) -> str:
    """Return a negative prompt with its styles."""
    return _without_comments(_styled(negative, styles, "apply_negative_styles_to_prompt"))


def is_filled_in_later(prompt: str) -> bool:
    """Say whether a prompt has what only other extensions know how to read."""
    return bool(_FILLED_IN.search(_TAG.sub("", prompt)))


def _styled(prompt: str, styles: Sequence[str], method: str) -> str:
    apply = getattr(getattr(_shared(), "prompt_styles", None), method, None)
    return str(apply(prompt, list(styles))) if styles and callable(apply) else prompt


def _without_comments(prompt: str) -> str:
    enabled = getattr(getattr(_shared(), "opts", None), "enable_prompt_comments", False)
    return _COMMENT.sub("\n", prompt) if enabled else prompt


def _with_added_network(prompt: str) -> str:
    options = getattr(_shared(), "opts", None)
    added = getattr(options, "sd_lora", "None")
    if added not in available_networks() or added in {network.name for network in parse_networks(prompt)}:
        return prompt
    return f"{prompt}<lora:{added}:{getattr(options, 'extra_networks_default_multiplier', 1.0)}>"


def _shared() -> Any:
    try:
        from modules import shared
    except ImportError:  # a page without a WebUI
        return None
    return shared
