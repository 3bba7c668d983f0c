"""A network file as low-rank deltas by layer name, before any model is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_pg.deltas import LowRank
from lib_pg.formats.adapter_config import read_adapter_configs
from lib_pg.formats.container import AGAIN, Container, TensorInfo, open_container
from lib_pg.formats.errors import NetworkError, counted, listed, printable
from lib_pg.formats.factors import FactorError, Factors, check_factors, load_factors
from lib_pg.formats.family import guess_family
from lib_pg.formats.keys import BIAS, FACTORS, SPOILING, UNRECOGNISED, LayerKey, parse_key
from lib_pg.formats.limits import FACTOR_BYTES_MAX


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A network as its file has it.

    Attributes:
        name: the file's stem, what the user calls it.
        layers: dW of each layer the file adapts by low-rank factors.
        metadata: the file's own free text.
        unsupported: layers by kind of network that cannot be scaled, such as 'LoKr', none of them in `layers`
            unless only their bias is meant.
        family: what the network seems to be for: 'SD 1.x', 'SD 2.x', 'SDXL', 'SD3', 'Flux' or 'unknown'.
    """

    name: str
    layers: Mapping[LayerKey, LowRank]
    metadata: Mapping[str, str]
    unsupported: Mapping[str, tuple[LayerKey, ...]]
    family: str

    @property
    def nbytes(self) -> int:
        """Bytes of all factors together."""
        return sum(delta.nbytes for delta in self.layers.values())


def read_network(path: str | os.PathLike[str]) -> NetworkFile:
    """Read a LoRA file (kohya, PEFT or diffusers naming) into memory of its own.

    Every shape is checked before a tensor is read.

    Raises:
        NetworkError: the file cannot be read, is damaged or hostile, or holds nothing that can be scaled.
    """
    with open_container(Path(path)) as container:
        drafts = _drafts(container)
        factors = _checked(container.name, drafts)
        unsupported = _unsupported(drafts)
        if not factors:
            raise _nothing_to_scale(container, unsupported)
        return NetworkFile(
            name=container.name,
            layers=_loaded(container, drafts, factors),
            metadata=container.metadata,
            unsupported=unsupported,
            family=guess_family(_widths(drafts), container.metadata),
        )


@dataclass
class _Draft:
    """What a file says of one layer, while it is being read."""

    dotted: str
    parts: dict[str, TensorInfo] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    @property
    def low_rank(self) -> bool:
        """Whether there are factors to use: an alpha alone adds nothing, and other kinds have one as well."""
        return not self.parts.keys() <= {"alpha"} and not self.kinds & SPOILING


def _drafts(container: Container) -> dict[LayerKey, _Draft]:
    drafts: dict[LayerKey, _Draft] = {}
    for key, info in container.tensors.items():
        parsed = parse_key(key)
        draft = drafts.setdefault(parsed.layer, _Draft(parsed.dotted))
        if parsed.part not in FACTORS:
            draft.kinds.add(parsed.part)
        elif parsed.part in draft.parts:
            both = f"{printable(draft.parts[parsed.part].key)} and {printable(key)}"
            raise NetworkError(container.name, f"names the same tensor twice, as {both}", AGAIN)
        else:
            draft.parts[parsed.part] = info
    return drafts


def _checked(name: str, drafts: Mapping[LayerKey, _Draft]) -> dict[LayerKey, Factors]:
    factors = {}
    for layer, draft in drafts.items():
        if draft.low_rank:
            try:
                factors[layer] = check_factors(draft.parts)
            except FactorError as error:
                raise _in_layer(name, layer, error) from error
    nbytes = sum(each.nbytes for each in factors.values())
    if nbytes > FACTOR_BYTES_MAX:
        problem = f"its factors need {nbytes} bytes of memory, at most {FACTOR_BYTES_MAX} are allowed"
        raise NetworkError(name, problem, "choose a network of lower rank")
    return factors


def _loaded(
    container: Container, drafts: Mapping[LayerKey, _Draft], factors: Mapping[LayerKey, Factors]
) -> dict[LayerKey, LowRank]:
    configs = read_adapter_configs(container.name, container.metadata)
    layers = {}
    for layer, each in factors.items():
        config = configs.get(layer.component)
        scale = config.scale(drafts[layer].dotted, each.rank) if config else 1.0
        try:
            layers[layer] = load_factors(each, container.load, scale)
        except FactorError as error:
            raise _in_layer(container.name, layer, error) from error
    return layers


def _unsupported(drafts: Mapping[LayerKey, _Draft]) -> dict[str, tuple[LayerKey, ...]]:
    kinds: dict[str, list[LayerKey]] = {}
    for layer, draft in drafts.items():
        for kind in sorted(draft.kinds):
            kinds.setdefault(kind, []).append(layer)
    return {kind: tuple(layers) for kind, layers in kinds.items()}


def _nothing_to_scale(container: Container, unsupported: Mapping[str, tuple[LayerKey, ...]]) -> NetworkError:
    kinds = [kind for kind in unsupported if kind != UNRECOGNISED]
    if len(kinds) > 1 and BIAS in kinds:  # comes along with many kinds, and is not what they are called
        kinds.remove(BIAS)
    if kinds:
        problem = f"{' and '.join(kinds)} networks cannot be scaled yet"
        return NetworkError(container.name, problem, "choose a LoRA or LoCon file")
    names = listed(list(container.tensors)) or "none"
    problem = f"holds {counted(len(container.tensors), 'tensor')} and no LoRA among them (names: {names})"
    return NetworkError(container.name, problem, "choose a LoRA file; a checkpoint or VAE is none")


def _widths(drafts: Mapping[LayerKey, _Draft]) -> dict[tuple[str, str], int | None]:
    downs = {layer: draft.parts.get("down") for layer, draft in drafts.items()}
    return {layer: down.shape[1] if down and len(down.shape) > 1 else None for layer, down in downs.items()}


def _in_layer(name: str, layer: LayerKey, error: FactorError) -> NetworkError:
    return NetworkError(name, f"layer {printable(str(layer))} {error}", AGAIN)
