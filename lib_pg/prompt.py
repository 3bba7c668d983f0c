"""The networks that a prompt asks for, read the way AUTOMATIC1111 and Forge read it.

    <lora:name:te strength:unet strength:...>, any of these also named: te=0.5, unet=0.8
    ours, named: pg=0.3, weak=0.4

The hosts keep named arguments they do not know, so ours never disturb them. They keep them letter by letter:
`PG = 0.3` is ours as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

KINDS = ("lora", "lyco")  # two names of one kind in the hosts
_OPENING = re.compile(r"<(\w+):")
_NUMBER = re.compile(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?")
_NUMBER_LENGTH = 32
_OURS = re.compile(r"\s*(pg|weak)(?![^\W\d_])", re.IGNORECASE)  # written without `=`, or with two
_SHOWN = 60

# Least and greatest multiplier of `weak=`.
WEAK_STRENGTHS = (-2.0, 2.0)


@dataclass(frozen=True)
class Own:
    """What a prompt says of one network's part in the weak branch; what it leaves out is None.

    Attributes:
        ratio: omega in [0, 1] (`pg=0.3`).
        strength: the multiplier there, in [-2, 2] (`weak=0.4`), whatever omega is; it wins over `ratio`.
    """

    ratio: float | None = None
    strength: float | None = None

    def after(self, earlier: Own) -> Own:
        """Return what holds where a prompt names a network again: what is said last, of each the last."""
        return Own(
            earlier.ratio if self.ratio is None else self.ratio,
            earlier.strength if self.strength is None else self.strength,
        )


@dataclass(frozen=True)
class PromptNetwork:
    """A network as a prompt asks for it.

    Attributes:
        name: as written; the host looks it up.
        te_strength: multiplier for the text encoder; finite.
        unet_strength: multiplier for the U-Net; finite.
        own: what is said of the weak branch.
        problem: what cannot be used as written and what becomes of it, for the user; empty where all is well.
        dyn: the rank that AUTOMATIC1111 is to cut it to (`dyn=16`), as written; empty where none is given.
    """

    name: str
    te_strength: float = 1.0
    unet_strength: float = 1.0
    own: Own = Own()
    problem: str = ""
    dyn: str = ""


def parse_networks(prompt: str) -> tuple[PromptNetwork, ...]:
    """Return the networks of a prompt in its order, repeated ones repeated; never raises for a text.

    What one mention says of the weak branch holds for all mentions of that network. The work grows with the
    length of the prompt only, whatever it contains.
    """
    found = [_network(arguments.split(":")) for kind, arguments, _ in _tags(prompt) if kind in KINDS]
    own: dict[str, Own] = {}
    for network in found:
        own[network.name] = network.own.after(own.get(network.name, Own()))
    return tuple(replace(network, own=own[network.name]) for network in found)


def split_tags(prompt: str) -> tuple[str, tuple[PromptNetwork, ...], tuple[str, ...]]:
    """Take a prompt apart: what is drawn, the networks, and the tags of other kinds.

    The hosts cut all tags out. Tags at the end, as programs append them, go with one space before each.
    """
    text, others, end = [], [], len(prompt)
    spans = [(span, kind, prompt[span.start : span.stop]) for kind, _, span in _tags(prompt)]
    for span, _, _ in reversed(spans):
        if span.stop != end:
            break
        end = span.start - prompt[: span.start].endswith(" ")
    position = 0
    for span, kind, tag in spans:
        text.append(prompt[position : min(span.start, max(end, position))])
        position = span.stop
        if kind not in KINDS:
            others.append(tag)
    text.append(prompt[position:end])
    return "".join(text), parse_networks(prompt), tuple(others)


def _tags(prompt: str) -> Iterator[tuple[str, str, slice]]:
    """Yield what the hosts' `<(\\w+):([^>]+)>` captures, without its quadratic time where no `>` follows,
    and where it stands.
    """
    position = 0
    while opening := _OPENING.search(prompt, position):
        closing = prompt.find(">", opening.end())
        if closing < 0:
            return
        if closing > opening.end():  # without arguments it is plain text to the hosts
            yield opening.group(1), prompt[opening.end() : closing], slice(opening.start(), closing + 1)
        position = closing + 1


def _network(items: list[str]) -> PromptNetwork:
    named = dict(parts for item in items if len(parts := item.split("=", 2)) == 2)
    positional = [item for item in items if len(item.split("=", 2)) != 2]
    if not positional:
        return PromptNetwork("", problem="a network without a name; the host cannot load it")
    name = positional[0]
    te, te_problem = _strength(name, named.get("te", positional[1] if len(positional) > 1 else None), 1.0)
    unet, unet_problem = _strength(
        name, named.get("unet", positional[2] if len(positional) > 2 else None), te
    )
    own, own_problem = read_own(name, named, positional[1:])
    dyn = named.get("dyn", positional[3] if len(positional) > 3 else "")
    return PromptNetwork(name, te, unet, own, own_problem or te_problem or unet_problem, dyn)


def _strength(name: str, text: str | None, default: float) -> tuple[float, str]:
    if text is None:
        return default, ""
    try:
        number = float(text)  # what the hosts do
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number, ""
    shown = f"{_short(name)}: strength {_short(text)!r}"
    return default, f"{shown} is not a number; write a number such as 0.8"


def read_own(name: str, named: Mapping[str, str], others: Sequence[str] = ()) -> tuple[Own, str]:
    """Return what a network's named arguments say of the weak branch, and a sentence on what is not used.

    Args:
        name: the network, for the sentence.
        named: the arguments, such as {"pg": "0.3"}; others than ours are ignored, case and spaces as well.
        others: the arguments without a name, or with more than one `=`: ours are no use there.
    """
    for text in others:
        if found := _OURS.match(text):
            return Own(), (
                f"{_short(name)}: {_short(text)!r} is a strength to the host, which then loads no network; "
                f"write it as {found[1].lower()}=0.3"
            )
    named = {key.strip().casefold(): text for key, text in named.items()}
    ratio, ratio_problem = _number(name, "pg", named.get("pg"), 0.0, 1.0)
    strength, strength_problem = _number(name, "weak", named.get("weak"), *WEAK_STRENGTHS)
    return Own(ratio, strength), strength_problem or ratio_problem


def _number(name: str, key: str, text: str | None, low: float, high: float) -> tuple[float | None, str]:
    if text is None:
        return None, ""
    text = text.strip()
    if len(text) <= _NUMBER_LENGTH and _NUMBER.fullmatch(text) and low <= float(text) <= high:
        return float(text) + 0.0, ""
    shown = f"{_short(name)}: {key}={_short(text)}"
    return None, (
        f"{shown} is not a number from {low:g} to {high:g}, so the settings decide; "
        f"write one such as {key}=0.3"
    )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
