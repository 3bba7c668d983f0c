"""A network file as deltas by layer name, before any model is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_pg.deltas import Delta
from lib_pg.deltas.kind import FactorError, Header
from lib_pg.formats.adapter_config import ADAPTER_NAME, read_adapter_configs
from lib_pg.formats.container import AGAIN, Container, open_container
from lib_pg.formats.errors import NetworkError, counted, listed, printable
from lib_pg.formats.family import guess_family
from lib_pg.formats.keys import UNRECOGNISED, LayerKey, parse_key
from lib_pg.formats.kinds import QUANTISED, UNSUPPORTED
from lib_pg.formats.layers import Checked, check_layer, load_layer
from lib_pg.formats.limits import FACTOR_BYTES_MAX


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A network as its file has it.

    Attributes:
        name: what the user calls it: the file's stem, or the folder's name where PEFT names the file.
        layers: what each layer is changed by.
        metadata: the file's own free text.
        unsupported: layers by kind of tensor that is not read, such as 'embedding'.
        family: what the network seems to be for: 'SD 1.x', 'SD 2.x', 'SDXL', 'SD3', 'Flux' or 'unknown'.
        ranks: of those layers whose factors have one.
    """

    name: str
    layers: Mapping[LayerKey, Delta]
    metadata: Mapping[str, str]
    unsupported: Mapping[str, tuple[LayerKey, ...]]
    family: str
    ranks: Mapping[LayerKey, int]

    @property
    def nbytes(self) -> int:
        """Bytes of all factors together."""
        return sum(delta.nbytes for delta in self.layers.values())


def read_network(path: str | os.PathLike[str]) -> NetworkFile:
    """Read a network file (kohya, LyCORIS, PEFT or diffusers naming) into memory of its own.

    Every shape is checked before a tensor is read.

    Args:
        path: a .safetensors file, or a folder that PEFT's `save_pretrained` made.

    Raises:
        NetworkError: the file cannot be read, is damaged or hostile, or holds nothing that can be weakened.
    """
    path = _file_of(Path(path))
    name = path.parent.resolve().name if path.name == ADAPTER_NAME else path.stem
    with open_container(path, name) as container:
        drafts = _drafts(container)
        layers = _checked(container.name, drafts)
        unsupported = _unsupported(drafts)
        if not layers:
            raise _nothing_to_weaken(container, unsupported)
        return NetworkFile(
            name=container.name,
            layers=_loaded(container, drafts, layers, path),
            metadata=container.metadata,
            unsupported=unsupported,
            family=guess_family(_widths(drafts, layers), container.metadata),
            ranks={layer: each.rank for layer, each in layers.items() if each.rank is not None},
        )


def _file_of(path: Path) -> Path:
    inside = path / ADAPTER_NAME
    return inside if os.path.isfile(inside) else path  # the method raises where a name is too long


@dataclass
class _Draft:
    """What a file says of one layer, while it is being read."""

    dotted: str
    parts: dict[str, Header] = field(default_factory=dict)
    unsupported: set[str] = field(default_factory=set)


def _drafts(container: Container) -> dict[LayerKey, _Draft]:
    drafts: dict[LayerKey, _Draft] = {}
    for key, header in container.tensors.items():
        parsed = parse_key(key)
        if parsed.part in QUANTISED:
            problem = (
                f"holds quantised weights with scales of their own ({printable(key)}), which are not read"
            )
            raise NetworkError(container.name, problem, "choose the file in float16 or bfloat16")
        draft = drafts.setdefault(parsed.layer, _Draft(parsed.dotted))
        if parsed.part in UNSUPPORTED or parsed.part == UNRECOGNISED:
            draft.unsupported.add(parsed.part)
        elif parsed.part in draft.parts:
            both = f"{printable(draft.parts[parsed.part].key)} and {printable(key)}"
            raise NetworkError(container.name, f"names the same tensor twice, as {both}", AGAIN)
        else:
            draft.parts[parsed.part] = header
    return drafts


def _checked(name: str, drafts: Mapping[LayerKey, _Draft]) -> dict[LayerKey, Checked]:
    layers = {}
    for layer, draft in drafts.items():
        try:
            checked = check_layer(draft.parts)
        except FactorError as error:
            raise _in_layer(name, layer, error) from error
        if checked is not None:
            layers[layer] = checked
    nbytes = sum(each.nbytes for each in layers.values())
    if nbytes > FACTOR_BYTES_MAX:
        problem = f"its factors need {nbytes} bytes of memory, at most {FACTOR_BYTES_MAX} are allowed"
        raise NetworkError(name, problem, "choose a network of lower rank")
    return layers


def _loaded(
    container: Container, drafts: Mapping[LayerKey, _Draft], layers: Mapping[LayerKey, Checked], path: Path
) -> dict[LayerKey, Delta]:
    configs = read_adapter_configs(container.name, container.metadata, path)
    deltas = {}
    for layer, checked in layers.items():
        config = configs.get(layer.component)
        scale = config.scale(drafts[layer].dotted, checked.rank) if config and checked.scaled else 1.0
        try:
            deltas[layer] = load_layer(checked, container.load, scale)
        except FactorError as error:
            raise _in_layer(container.name, layer, error) from error
    return deltas


def _unsupported(drafts: Mapping[LayerKey, _Draft]) -> dict[str, tuple[LayerKey, ...]]:
    kinds: dict[str, list[LayerKey]] = {}
    for layer, draft in drafts.items():
        for kind in sorted(draft.unsupported):
            kinds.setdefault(kind, []).append(layer)
    return {kind: tuple(layers) for kind, layers in kinds.items()}


def _nothing_to_weaken(container: Container, unsupported: Mapping[str, tuple[LayerKey, ...]]) -> NetworkError:
    kinds = [kind for kind in unsupported if kind != UNRECOGNISED]
    if kinds:
        problem = f"holds only {' and '.join(kinds)} tensors, which are not read"
        return NetworkError(container.name, problem, "choose a LoRA or LyCORIS file")
    names = listed(list(container.tensors)) or "none"
    problem = f"holds {counted(len(container.tensors), 'tensor')} and no network among them (names: {names})"
    return NetworkError(container.name, problem, "choose a LoRA or LyCORIS file; a checkpoint or VAE is none")


def _widths(
    drafts: Mapping[LayerKey, _Draft], layers: Mapping[LayerKey, Checked]
) -> dict[tuple[str, str], int | None]:
    plans = {layer: layers[layer].plan if layer in layers else None for layer in drafts}
    return {layer: plan.inputs if plan else None for layer, plan in plans.items()}


def _in_layer(name: str, layer: LayerKey, error: FactorError) -> NetworkError:
    return NetworkError(name, f"layer {printable(str(layer))} {error}", AGAIN)
