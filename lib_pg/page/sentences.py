"""The sentences of the line: each says one thing, and what to do where something is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lib_pg.guidance import weak_conditioning
from lib_pg.settings import Settings

OFF = (
    "Off: pictures are made as if the extension were not there. "
    "To begin, tick it and write a prompt with a LoRA, such as <lora:name:1>."
)
MODE_CFG = "Mode CFG: the host's own guidance, nothing changes. Choose PG or AG to guide."
SCALE_1 = "Nothing will happen: at CFG scale 1 there is no guidance. Raise the CFG scale."
MAY_CHANGE = "This is as far as this prompt says: what is filled in later may hold other networks."
NONE_LOADED = "The host then loads none of the prompt's networks."
REFINER = "The refiner draws the last steps; networks are weakened there if the host loads them into it."
SECOND_OFF = "Hires pass: plain CFG."
SECOND_SAME = "Hires pass: the same."
FIRST_SCALE_1 = "First pass: at CFG scale 1 there is no guidance."
SECOND_SCALE_1 = "Hires pass: at CFG scale 1 there is no guidance."

_AND = re.compile(r"\bAND\b")


def sentence(text: str, names: Sequence[str] = ()) -> str:
    """Return a note as a sentence; names of networks keep their case at its beginning."""
    whole = text if text.endswith((".", "?", "!")) else f"{text}."
    begins_with_name = text.startswith(tuple(filter(None, names)))
    return whole if begins_with_name else whole[:1].upper() + whole[1:]


def as_far_as_known(note: str, names: Sequence[str]) -> str:
    """Return a note on networks that are not there: extensions may still add some when it runs."""
    begins_with_name = note.startswith(tuple(filter(None, names)))
    return f"As far as this prompt says: {note if begins_with_name else note[:1].lower() + note[1:]}"


def missing(name: str, similar: str) -> str:
    """Say that the host has no network of a name."""
    correct = f"did you mean {similar}? Case matters." if similar else "correct the name or refresh the list."
    return f"The host knows no network {name!r}; {correct}"


def wrong_family(name: str, made_for: str, family: str) -> str:
    """Say that a network does not belong to the checkpoint."""
    return f"{name} is made for {made_for}, the checkpoint is {family}: it does not fit."


def not_loaded(name: str, kinds: Sequence[str]) -> str:
    """Say that the host cannot load a network."""
    return f"{name} is of the kind {' and '.join(kinds)}, which this host does not load: it does nothing."


def no_checkpoint(base: str) -> str:
    """Say that the base checkpoint is not there."""
    return f"Base checkpoint {base!r} is none of the host's and will not be used; choose one of its list."


def set_by_axes(labels: Sequence[str]) -> str:
    """Say which controls a grid sets."""
    what = " and ".join(labels)
    if "Enabled" in labels or "Mode" in labels:
        return f"The X/Y/Z plot sets {what}, so some cells may be plain CFG. Where it guides:"
    return f"The X/Y/Z plot sets {what} and switches guidance on. With the values here:"


def no_step(settings: Settings, steps: int | None) -> str:
    """Say that the interval is empty; how many steps there are may not be known."""
    if settings.start == settings.end:
        return "Nothing will happen: Start equals End. Lower Start or raise End."
    which = "no step" if steps is None else f"none of the {steps} steps"
    return (
        f"Nothing will happen: {which} begins between Start {settings.start:g} and "
        f"End {settings.end:g}. Lower Start or raise End."
    )


def interval(settings: Settings, guided: range | None, steps: int | None, prompt: str) -> str:
    """Say which steps are guided, and what the others are.

    Args:
        guided: those of `steps`, from 0; None where these are not known.
    """
    if guided is None:
        when = f"Guided from {settings.start * 100:g}% to {settings.end * 100:g}% of the steps"
    elif len(guided) == 1:
        when = f"Guided in step {guided[0] + 1} of {steps}"
    else:
        when = f"Guided in steps {guided[0] + 1} to {guided[-1] + 1} of {steps}"
    if settings.outside == "CFG" or _AND.search(prompt):
        return f"{when}; the others are plain CFG."
    return f"{when}; the others draw the prompt alone, unguided, at half the cost."


def on_prompts(settings: Settings, prompt: str, negative: str) -> list[str]:
    """Say what the weak branch reads, where that is not what the user would expect."""
    reads = weak_conditioning(settings.mode, settings.weak_prompt)
    if reads == "prompt":
        if _AND.search(prompt):
            return ["AG cannot guide a prompt with AND, so plain CFG is used; use PG."]
        return [
            "The weak branch reads the prompt itself; neither the negative prompt nor Weak prompt counts."
        ]
    if reads == "negative":
        return ["The weak branch reads the negative prompt."]
    if not negative.strip():
        return []
    return ["The negative prompt is not read. Choose Weak prompt: Negative to have it read."]
