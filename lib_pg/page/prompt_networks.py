"""The networks that a prompt asks for, as far as the host will load them, and why it will not load others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib_pg.page import sentences
from lib_pg.page.situation import HostFiles
from lib_pg.prompt import PromptNetwork, parse_networks

if TYPE_CHECKING:  # needs torch, which is loaded when there is something to say of networks
    from lib_pg.networks import Network

_LISTED = 12
_NAME_SHOWN = 60


@dataclass(frozen=True)
class PromptNetworks:
    """What a prompt comes to.

    Attributes:
        wanted: what it asks for.
        active: those that will be in the weights.
        problems: sentences on the others, and on what cannot be used as written.
    """

    wanted: tuple[PromptNetwork, ...]
    active: tuple[Network, ...]
    problems: tuple[str, ...]

    def same_as(self, other: PromptNetworks) -> bool:
        """Whether both prompts ask for the same networks at the same strengths."""
        return self.wanted == other.wanted


def read_prompt(prompt: str, files: HostFiles) -> PromptNetworks:
    """Return the networks of a prompt that the host will read as it is."""
    wanted = parse_networks(prompt)
    family = files.family() if wanted else ""
    missing = [each.name for each in wanted if each.name and files.find(each.name) is None]
    active: list[Network] = []
    problems = [sentences.sentence(each.problem, [each.name]) for each in wanted if each.problem]
    for name in dict.fromkeys(missing):
        problems.append(sentences.missing(shown(name), files.similar(name)))
    if missing and files.all_or_none:
        return PromptNetworks(wanted, (), (*problems[: _LISTED - 1], sentences.NONE_LOADED))
    for each in wanted:
        known = files.find(each.name) if each.name else None
        if known is None:
            continue
        if family and known.family and known.family != family:
            problems.append(sentences.wrong_family(shown(each.name), known.family, family))
        elif known.kinds and known.kinds <= files.left_out:
            problems.append(sentences.not_loaded(shown(each.name), sorted(known.kinds)))
        else:
            active.append(_network(each, known.metadata))
    return PromptNetworks(wanted, tuple(active), tuple(dict.fromkeys(problems))[:_LISTED])


def shown(name: str) -> str:
    """Return a name short enough for a line."""
    return name if len(name) <= _NAME_SHOWN else name[:_NAME_SHOWN] + "..."


def _network(wanted: PromptNetwork, metadata: Mapping[str, str]) -> Network:
    from lib_pg.deltas.base import ActiveNetwork
    from lib_pg.networks import Network

    name = shown(wanted.name)
    part = ActiveNetwork(name, {}, wanted.unet_strength, wanted.own.strength)
    return Network(name, {"unet": part}, wanted.own.ratio, metadata)
