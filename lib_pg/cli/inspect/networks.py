"""A network file without a model: what its layers are, what makes their weak rows, and what that costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lib_pg.accelerators import judge
from lib_pg.cli.inspect.facts import About, layers, mebibytes
from lib_pg.deltas import Delta
from lib_pg.deltas.base import Additive, Transforming
from lib_pg.deltas.bias import WithBias
from lib_pg.deltas.dora import Dora
from lib_pg.deltas.full import FullDifference
from lib_pg.deltas.glora import GLora
from lib_pg.deltas.loha import TuckerLoHa
from lib_pg.formats import NetworkFile, read_network
from lib_pg.formats.errors import printable
from lib_pg.formats.match import COMPONENTS
from lib_pg.weak_branch.choice import choose

# Of the text that trainers put into a file: the rest is long, and says nothing of weakening.
_SHOWN = (
    "modelspec.title", "modelspec.architecture", "ss_output_name", "ss_base_model_version",
    "ss_sd_model_name", "ss_network_module", "ss_network_dim", "ss_network_alpha",
)  # fmt: skip
_HALF = 2  # bytes of a weight in float16
_ACCELERATOR = {
    "yes": "yes: spared by the weak branch where few steps or a low scale need it",
    "maybe": "maybe: write :pg=1 behind its name where it is one",
    "no": "no",
}


@dataclass
class _Engines:
    """What the weak rows of the U-Net's layers take, without other networks.

    Attributes:
        counts: layers by engine.
        reasons: split layers by the reason.
        added, own: multiplications for one position: of the thin engine, and those layers' own.
        weights: numbers in the split layers' weak weights.
    """

    counts: Counter[str]
    reasons: Counter[str]
    added: int = 0
    own: int = 0
    weights: int = 0


def about_network(path: Path) -> About:
    """Return what is known of a network; all of it is read, for damage may be anywhere.

    Raises:
        NetworkError: it cannot be used.
    """
    file = read_network(path)
    kinds = Counter(delta.kind for delta in file.layers.values())
    ranks = Counter(file.ranks.values())
    parts = Counter(COMPONENTS.get(key.component, printable(key.component)) for key in file.layers)
    engines = _engines(file)
    unread = {printable(kind): len(found) for kind, found in file.unsupported.items()}
    accelerator = judge(file.name, file.metadata)
    said = {key: printable(file.metadata[key]) for key in _SHOWN if file.metadata.get(key)}
    facts = {
        "what": "network",
        "name": file.name,
        "family": file.family,
        "kinds": dict(kinds),
        "ranks": {str(rank): count for rank, count in sorted(ranks.items())},
        "parts": dict(parts),
        "not_read": unread,
        "bytes": file.nbytes,
        "engines": dict(engines.counts),
        "split_because": dict(engines.reasons),
        "added_share": engines.added / engines.own if engines.own else 0.0,
        "weak_weights_bytes": engines.weights * _HALF,
        "accelerator": accelerator,
        "metadata": said,
    }
    lines = [
        ("kinds", layers(kinds)),
        ("ranks", ", ".join(f"{rank} ({count}x)" for rank, count in sorted(ranks.items())) or "none"),
        ("parts", layers(parts)),
        ("memory", f"{mebibytes(file.nbytes)} of factors"),
        ("weakened", _weakened(parts, engines)),
        ("cost", _cost(engines)),
        ("accelerator", _ACCELERATOR[accelerator]),
    ]
    if unread:
        lines.append(("not read", layers(unread)))
    lines += list(said.items())
    known = "a model family that is not known" if file.family == "unknown" else file.family
    return About(file.name, f"a network for {known}", facts, lines)


def _engines(file: NetworkFile) -> _Engines:
    found = _Engines(Counter(), Counter())
    for key, delta in file.layers.items():
        if key.component.startswith("te"):
            continue  # it runs once a picture, with weights that are weakened for that
        shape = _weight_shape(delta)
        if shape is None or len(shape) not in (2, 4):
            _add_without_shape(found, delta)
            continue
        choice = choose(_layer(shape), [delta])
        found.counts[choice.engine] += 1
        if choice.engine == "split":
            found.reasons[choice.reason] += 1
            found.weights += math.prod(shape)
        else:
            assert isinstance(delta, (Additive, Transforming))
            found.added += delta.cost
            found.own += math.prod(shape)
    return found


def _add_without_shape(found: _Engines, delta: Delta) -> None:
    """Count a layer whose weight's shape is not in the file: norms, biases, rotations, (IA)3."""
    thin = isinstance(delta, Transforming)
    found.counts["thin" if thin else "split"] += 1
    if not thin:
        found.reasons[delta.kind] += 1


def _weight_shape(delta: Delta) -> tuple[int, ...] | None:
    """Return the shape of the weight that a delta is for, where it tells."""
    if isinstance(delta, (Additive, TuckerLoHa)):
        return delta.weight_shape
    if isinstance(delta, FullDifference):
        return tuple(delta.value.shape)
    if isinstance(delta, WithBias):
        return None if delta.weight is None else _weight_shape(delta.weight)
    if isinstance(delta, Dora):
        return _weight_shape(delta.direction)
    return delta.outer.weight_shape if isinstance(delta, GLora) else None


def _layer(shape: tuple[int, ...]) -> nn.Module:
    """Return a layer with a weight of a shape, and no numbers in it."""
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], bias=False, device="meta")
    kernel = (shape[2], shape[3])
    return nn.Conv2d(shape[1], shape[0], kernel, bias=False, device="meta")


def _weakened(parts: Mapping[str, int], engines: _Engines) -> str:
    said = []
    if engines.counts["thin"]:
        said.append(f"{engines.counts['thin']} by the thin engine")
    if engines.counts["split"]:
        reasons = ", ".join(engines.reasons)
        said.append(f"{engines.counts['split']} by the split engine ({reasons})")
    if any("text encoder" in part for part in parts):
        said.append("the text encoder's when the null prompt is encoded")
    return "all layers: " + ", ".join(said)


def _cost(engines: _Engines) -> str:
    said = []
    if engines.own:
        share = engines.added / engines.own
        said.append(f"{share:.1%} more multiplications in the weak rows of thin layers")
    if engines.weights:
        said.append(f"{mebibytes(engines.weights * _HALF)} for the split layers' weak weights in float16")
    return "; ".join(said) or "none at each step"
