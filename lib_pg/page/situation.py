"""What the host's page says of the coming picture, as far as the line depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lib_pg.hosts.webui.network_files import KnownNetwork


@dataclass(frozen=True)
class SecondPass:
    """The pass of hires fix.

    Attributes:
        prompt: as the host will read it.
        cfg_scale: its own; None where it has the first pass's or that is not known.
        steps: its own; None where it has the first pass's or that is not known.
    """

    prompt: str
    cfg_scale: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Situation:
    """What is on the page beside the extension's own controls.

    Attributes:
        prompt: as the host will read it, styles applied.
        negative: likewise the negative prompt.
        cfg_scale: the host's; None where it is not known.
        steps: how many sampling steps are asked for; None where that is not known.
        runs_all_steps: whether these are the steps that there will be; img2img runs a part of them.
        second_pass: that of hires fix; None where there is none.
        refiner: whether another checkpoint takes over.
        axes: the names of those settings that the axes of a grid set, cell by cell.
        may_change: whether something that cannot be read here, such as wildcards, changes the prompt.
    """

    prompt: str = ""
    negative: str = ""
    cfg_scale: float | None = None
    steps: int | None = None
    runs_all_steps: bool = True
    second_pass: SecondPass | None = None
    refiner: bool = False
    axes: tuple[str, ...] = ()
    may_change: bool = False


def _any_network(name: str) -> KnownNetwork:
    return KnownNetwork()


@dataclass(frozen=True)
class HostFiles:
    """What the host has on its disk; the defaults know nothing and object to nothing.

    Attributes:
        find: returns what is known of a network by its name in the prompt; None where the host has none.
        similar: returns a name of the host's that differs in case alone, or nothing.
        family: returns the family of the checkpoint, or nothing.
        left_out: kinds of networks that the host does not load.
        all_or_none: whether a network that is missing keeps the host from loading the others.
        has_checkpoint: whether the host lists a checkpoint of that name.
    """

    find: Callable[[str], KnownNetwork | None] = _any_network
    similar: Callable[[str], str] = lambda name: ""
    family: Callable[[], str] = lambda: ""
    left_out: frozenset[str] = frozenset()
    all_or_none: bool = False
    has_checkpoint: Callable[[str], bool] = lambda name: True
