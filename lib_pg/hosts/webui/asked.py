"""What a WebUI's prompt asks of networks, and why some of them are not there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib_pg.hosts.webui.lora_extension import is_forge, loaded_networks, lora_module, name_of
from lib_pg.prompt import Own

# AUTOMATIC1111 encodes an empty prompt when it loads a model, and deactivates all networks for that.
_NOT_IN_REFINER = "the host drops the prompt's networks when it loads a refiner"


@dataclass(frozen=True)
class Asked:
    """What the prompt says of networks, and what is known before a pass.

    Attributes:
        own: networks' part in the weak branch, by the name used in the prompt.
        faults: what is wrong with tags that the host may not be able to read, likewise.
        known: sentences on what of the pass cannot be weakened.
        is_refiner: whether the pass goes on with another model than it has begun with.
    """

    own: Mapping[str, Own]
    faults: Mapping[str, str]
    known: Sequence[str] = ()
    is_refiner: bool = False

    def absent(self) -> dict[str, str]:
        """Return which networks are not in the picture, and because of what."""
        absent = absent_networks({name: self.faults.get(name, "") for name in self.own})
        return dict.fromkeys(absent, _NOT_IN_REFINER) if self.is_refiner and not is_forge() else absent

    def faults_beside(self, absent: Mapping[str, str]) -> list[str]:
        """Return what is wrong with tags of networks that are there all the same."""
        return [fault for name, fault in self.faults.items() if name not in absent]


def absent_networks(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return which networks the prompt asks for are not in the picture, and because of what.

    The hosts look names up letter for letter. One tag that they cannot read keeps them from loading any
    network, and in Forge one network that is not there does so, too. What has one cause has one sentence.

    Args:
        wanted: the names in the prompt, with what is wrong about their tags; empty where nothing is.
    """
    active = {name_of(loaded) for loaded in loaded_networks()}
    gone = [name for name in wanted if name not in active]
    tags = [wanted[name] for name in gone if wanted[name]]
    unknown = [name for name in gone if not _is_listed(name)]
    lost = [name for name in gone if name not in unknown and not _is_on_disk(name)]
    others = ", ".join(name for name in gone if not (wanted[name] or name in unknown or name in lost))
    causes = list(tags)
    if unknown:
        names = ", ".join(map(repr, unknown))
        causes.append(f"the host knows no network {names}; correct the name or refresh the host's list")
    if lost:
        causes.append(f"the file of {', '.join(lost)} is gone; put it back or refresh the host's list")
    if others and (tags or (causes and is_forge())):
        causes.append(f"The host has left out {others} as well")
    elif others:
        causes.append(f"the host has not loaded {others}, so it is in no branch; its console says why")
    return dict.fromkeys(gone, ". ".join(causes))


def _is_listed(name: str) -> bool:
    """Whether the extension would find a network; true where it does not tell what it has."""
    module = lora_module()
    if name.lower() in getattr(module, "forbidden_network_aliases", ()):
        return name in getattr(module, "available_networks", ())
    aliases = getattr(module, "available_network_aliases", None)
    return aliases is None or name in aliases


def _is_on_disk(name: str) -> bool:
    """Whether the file of a listed network is still there; true where the extension does not tell which."""
    module = lora_module()
    names = "available_networks" if name.lower() in getattr(module, "forbidden_network_aliases", ()) else None
    listed = getattr(module, names or "available_network_aliases", None) or {}
    filename = getattr(listed.get(name), "filename", None)
    return filename is None or os.path.isfile(filename)
