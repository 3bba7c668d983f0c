"""What the live tests of other extensions beside ours share: an extension as a call has it, and the figures.

The figures are mean differences of two pictures in levels of 255. They are printed as the rows of the tables
in docs/neighbours.md, with `-s`. PG_LIVE_LOG names the file that the host writes its console to: no traceback
may be in what it writes during a test.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.live.host import TITLE, Answer, Host, Pixels, as_png, distance

BRUTE_FORCE = "Brute force weak pass"
PROBE = "Live probe"
OMEGA = 0.4
GUIDED: Mapping[str, Any] = {"enabled": True, "weak_ratio": OMEGA}
FAR = 0.5
CAT = "a cat on a chair"
ADVICE = "install it in the host's extensions folder and restart the host"
LOG = os.environ.get("PG_LIVE_LOG", "")
WIDE = os.environ.get("PG_LIVE_WIDE", "").split(",")


@dataclass(frozen=True)
class Neighbour:
    """An extension as a call of the host's API has it.

    Attributes:
        title: the script's; empty for what is a setting of the host.
        args: what switches it on; None where the prompt or settings alone do.
        values: further values of the call.
        values_on: those that switch it on, where arguments do not.
        options: settings of the host with which it works.
        on: settings that switch it on, where arguments do not.
        off: settings that switch it off, where leaving the arguments out does not.
        by_brute_force: whether brute force can be combined with it.
        least: what it changes in a picture at least, in the mean of 255 levels.
        wide: whether it does nothing to a small model.
        own_weights: whether it leaves weights of other bits behind by itself.
        weakens: whether it leaves something to weaken.
        also: arguments of others beside it, by title.
    """

    title: str
    args: list[Any] | None
    prompt: str = CAT
    values: Mapping[str, Any] = field(default_factory=dict)
    values_on: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Any] = field(default_factory=dict)
    off: Mapping[str, Any] = field(default_factory=dict)
    by_brute_force: bool = True
    least: float = FAR
    wide: bool = False
    own_weights: bool = False
    weakens: bool = True
    also: Mapping[str, list[Any]] = field(default_factory=dict)


class Maker:
    """Makes the pictures of neighbours; those without them once for all that share them.

    Args:
        network: the one in the prompt, where a neighbour needs no wide model.
    """

    def __init__(self, host: Host, network: str) -> None:
        self._host, self._network = host, network
        self._without: dict[str, Pixels] = {}

    def __call__(
        self,
        neighbour: Neighbour,
        on: bool,
        ours: Mapping[str, Any] | None = None,
        brute: float = -1,
        **values: Any,
    ) -> Answer:
        """Make pictures.

        Args:
            on: whether the neighbour is at work.
            ours: the arguments of our extension; None sends none.
            brute: omega of brute force; below 0 it is off.
            values: further values of the call.
        """
        checkpoint, network = WIDE if neighbour.wide else ("", self._network)
        beside = {neighbour.title: neighbour.args, **neighbour.also} if on and neighbour.args else {}
        options = {**neighbour.options, **(neighbour.on if on else neighbour.off)}
        if checkpoint:
            options["sd_model_checkpoint"] = checkpoint
        if brute >= 0:
            beside = {**beside, BRUTE_FORCE: [brute]}
        return self._host.txt2img(
            f"{neighbour.prompt}<lora:{network}:1>",
            args=ours,
            always_on=beside,
            options=options,
            **{"steps": 4, **neighbour.values, **(neighbour.values_on if on else {}), **values},
        )

    def alone(self, neighbour: Neighbour, on: bool, **given: Any) -> Pixels:
        """Return the host's pictures with an empty negative prompt, which is what omega 1 has to be."""
        return drawn(self(neighbour, on, negative_prompt="", **given), neighbour)

    def without(self, neighbour: Neighbour, **given: Any) -> Pixels:
        """Return the pictures without the neighbour, made once."""
        key = repr((neighbour.prompt, neighbour.values, neighbour.off, neighbour.wide, given))
        if key not in self._without:
            self._without[key] = drawn(self(neighbour, on=False, **given), neighbour)
        return self._without[key]

    def check_installed(self, neighbour: Neighbour) -> None:
        titles = {neighbour.title, *neighbour.also} - {""}
        if absent := [title for title in titles if title.lower() not in self._host.scripts()]:
            pytest.skip(f"the host has no {', '.join(absent)}: {ADVICE}")
        if any(not self._host.has_option(name) for name in neighbour.on):
            pytest.skip(f"the host has no setting {', '.join(neighbour.on)}")
        if neighbour.wide and len(WIDE) != 2:
            pytest.skip("set PG_LIVE_WIDE to a checkpoint and a network")


def together(
    neighbours: Mapping[str, Neighbour], names: Sequence[str], prompt: str, **given: Any
) -> Neighbour:
    """Return several neighbours as one.

    Args:
        names: which of them; of one title the last counts.
        given: further fields.
    """
    chosen = [neighbours[name] for name in names]
    also = {each.title: each.args for each in chosen if each.args is not None}
    title = next(iter(also))
    fields = {
        name: {key: value for each in chosen for key, value in getattr(each, name).items()}
        for name in ("values", "values_on", "options", "on", "off")
    }
    return Neighbour(title, also.pop(title), prompt, also=also, **{**fields, **given})


def drawn(answer: Answer, neighbour: Neighbour) -> Pixels:
    """Return all pictures of a batch as one, without its grid and what ControlNet has made of its picture."""
    count = neighbour.values.get("batch_size", 1)
    return np.concatenate(answer.pictures[1 : count + 1] if count > 1 else answer.pictures[:1])


def place_of_ours(host: Host) -> str:
    """Return after how many of the host's scripts ours comes."""
    titles = host.scripts()
    return f"ours is script {titles.index(TITLE.lower()) + 1} of {len(titles)}"


def reference(module: str) -> list[Any]:
    """Return the arguments of ControlNet without a model; weight 2 reaches layers of a small one too."""
    down, across = np.mgrid[0:128, 0:128]
    picture = np.stack([2 * down, 2 * across, 254 - down - across], axis=-1).astype(np.int16)
    unit = {"enabled": True, "module": module, "model": "None", "weight": 2.0}
    return [{**unit, "image": as_png(picture)}]


def check_both_at_work(host: Host, level: float, make: Maker, neighbour: Neighbour, name: str) -> None:
    """Hold the neighbour alone, ours beside it and brute force against each other, and print the figures."""
    make.check_installed(neighbour)
    logged = len(_log())
    plain = make.without(neighbour)
    changed = distance(alone := make.alone(neighbour, on=True), make.without(neighbour, negative_prompt=""))
    probed = PROBE.lower() in host.scripts() and not neighbour.own_weights
    before = host.state() if probed else None
    answer = make(neighbour, on=True, ours=GUIDED)
    both = drawn(answer, neighbour)
    beside = distance(both, make.without(neighbour, ours=GUIDED))
    one = drawn(make(neighbour, on=True, ours={**GUIDED, "weak_ratio": 1.0}), neighbour)
    off = drawn(make(neighbour, on=False), neighbour)
    after = host.state() if probed else None
    found = None
    if neighbour.by_brute_force and BRUTE_FORCE.lower() in host.scripts():
        found = distance(both, drawn(make(neighbour, on=True, brute=OMEGA), neighbour))
        if neighbour.also:
            # Masks and merged tokens hang on the last bit: to cut the batch changes something by itself.
            cut = distance(one, drawn(make(neighbour, on=True, brute=1.0), neighbour))
            name, level = f"{name}; {cut:.4f} is the cut's", max(level, 3 * cut)
        # It leaves a text encoder lowered till the next prompt.
        make(neighbour, on=False, negative_prompt="something else", steps=1)
    figures = [f"{value:.3f}" for value in (changed, beside, distance(both, alone))]
    figures.append("none" if found is None else f"{found:.4f}")
    print(f"\n| {name} | {' | '.join(figures)} | {answer.told}")
    assert "Traceback" not in _log()[logged:], f"the host's log has a traceback: {LOG}"
    assert changed > neighbour.least
    assert beside > neighbour.least, "the neighbour did nothing beside ours"
    if neighbour.weakens:
        assert answer.guidance() == {"PG mode": "PG", "PG weak ratio": str(OMEGA)}
        assert distance(both, alone) > FAR, "ours did nothing beside the neighbour"
    else:
        assert answer.told and np.array_equal(both, alone), "the null prompt alone is left"
    assert np.array_equal(one, alone), "omega 1 is not the neighbour with an empty negative prompt"
    assert np.array_equal(off, plain), "something stays"
    if before and after:  # the neighbour's own hooks may stay: Incantations' do
        assert after["weights"] == before["weights"]
        assert after["ours"] == 0
        assert after["modifiers"] == 0
    assert found is None or found < level


def _log() -> str:
    return Path(LOG).read_text(errors="replace") if LOG else ""
