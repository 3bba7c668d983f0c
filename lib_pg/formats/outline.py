"""What a file is, from its header alone: no tensor is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_pg.deltas.kind import FactorError, Header
from lib_pg.formats.container import open_container
from lib_pg.formats.family import guess_family
from lib_pg.formats.keys import LayerKey, parse_key
from lib_pg.formats.kinds import KINDS, MODIFIERS
from lib_pg.formats.layers import Checked, check_layer


@dataclass(frozen=True)
class Outline:
    """What a network's header says.

    Attributes:
        family: what it seems to be for: 'SD 1.x', 'SD 2.x', 'SDXL', 'SD3', 'Flux' or 'unknown'.
        kinds: what its layers are, as users call them, such as 'LoHa'; what lies over a kind counts as well.
        metadata: its free text.
    """

    family: str
    kinds: frozenset[str]
    metadata: Mapping[str, str] = field(default_factory=dict, compare=False)


def outline_network(path: Path) -> Outline:
    """Return the outline of a network file; shapes that make no sense do not matter.

    Raises:
        NetworkError: the file is missing, unreadable, beyond a limit, or no valid safetensors file.
    """
    with open_container(path, path.stem) as container:
        parts: dict[LayerKey, dict[str, Header]] = {}
        for key, header in container.tensors.items():
            parsed = parse_key(key)
            parts.setdefault(parsed.layer, {})[parsed.part] = header
        layers = {layer: _checked(headers) for layer, headers in parts.items()}
        widths: dict[tuple[str, str], int | None] = {
            layer: each.plan.inputs if each and each.plan else None for layer, each in layers.items()
        }
        named = {part for headers in parts.values() for part in headers}
        kinds = {kind.name for kind in KINDS if named & kind.parts.keys()}
        kinds |= {modifier.name for modifier in MODIFIERS if named & modifier.parts.keys()}
        return Outline(guess_family(widths, container.metadata), frozenset(kinds), container.metadata)


def family_of_checkpoint(path: Path) -> str:
    """Return what family a whole checkpoint seems to be of, as `Outline` calls them.

    Raises:
        NetworkError: as for `outline_network`.
    """
    with open_container(path, path.stem) as container:
        widths = {
            ("unet", key.removesuffix(".weight").replace(".", "_")): header.shape[1]
            for key, header in container.tensors.items()
            if len(header.shape) == 2
        }
        return guess_family(widths, {})


def _checked(headers: dict[str, Header]) -> Checked | None:
    try:
        return check_layer(headers)
    except FactorError:
        return None
