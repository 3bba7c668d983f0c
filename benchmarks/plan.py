"""What is measured, the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.arms import ARMS, CFG, FAST, FAST_HALF, HALF, PG
from benchmarks.denoisers import FAMILIES
from benchmarks.networks import KINDS, RANK

FINE_TUNE = "full fine-tune"
LORA = "LoRA"
_SPLIT = "full difference"  # no layer of it has a thin form
UNETS = ("sd15", "sdxl", "tiny")
_SIDES = (0.5, 0.75, 1.5)  # to the size that users choose


@dataclass(frozen=True)
class Setting:
    """One comparison of arms in turns.

    Attributes:
        model: one of `FAMILIES`.
        dtype: of its weights, as torch calls it.
        size: pixels a side.
        batch: pictures; the model is called with two rows for each.
        kind: of the networks, or a full fine-tune.
        rank, layers: as for `random_network`.
        networks: how many of them are in the weights.
        arms: some of `ARMS`, CFG among them.
    """

    model: str
    dtype: str
    size: int
    batch: int = 1
    kind: str = LORA
    rank: int = RANK
    layers: str = "blocks"
    networks: int = 1
    arms: tuple[str, ...] = (CFG, PG, FAST)

    @property
    def key(self) -> str:
        """Its name in results; the arms are no part of it."""
        how = f"{self.kind} r{self.rank} {self.layers} x{self.networks}"
        return f"{self.model} {self.dtype} {self.size} px batch {self.batch} {how}"


def plan(models: Sequence[str], dtypes: Sequence[str], device: str) -> list[Setting]:
    """Return all settings in the order in which they are worth their time.

    Args:
        models: names of `FAMILIES`.
        dtypes: the first is used for everything, the others for a comparison with it.
        device: a CPU gets the larger part at half the size that users choose: a step takes it seconds.
    """
    first, *others = dtypes
    bases = [Setting(model, first, FAMILIES[model].size) for model in models]
    small = [replace(base, size=base.size // 2) for base in bases] if device == "cpu" else bases
    unets = [base for base in small if base.model in UNETS]
    rest = [base for base in small if base.model not in UNETS]
    several = (CFG, PG, FAST, HALF, FAST_HALF)
    found = [
        setting
        for base in unets
        for setting in (replace(base, arms=ARMS), replace(base, rank=16), replace(base, rank=128))
    ]
    if device == "cpu":
        found += [replace(base, arms=several) for base in bases if base.model in UNETS]
    found += [setting for base in unets for setting in _kinds(base)]
    found += [replace(base, arms=several) for base in rest]
    found += [replace(base, dtype=dtype, arms=several) for dtype in others for base in small]
    found += [replace(base, kind=FINE_TUNE) for base in unets[:1]]
    found += [setting for base in unets for setting in _growth(base)]
    found += [replace(base, rank=rank) for base in rest for rank in (16, 128)]
    found += [replace(base, kind=FINE_TUNE) for base in unets[1:]]
    first_of: dict[str, Setting] = {}
    for setting in found:
        first_of.setdefault(setting.key, setting)
    return list(first_of.values())


def with_kernels(wanted: Sequence[Setting]) -> list[Setting]:
    """Return those whose kernels are counted: the first of each model and type, and layers split alone."""
    first_of: dict[tuple[str, str, bool], Setting] = {}
    for setting in wanted:
        first_of.setdefault((setting.model, setting.dtype, setting.kind == _SPLIT), setting)
    return list(first_of.values())


def _kinds(base: Setting) -> Iterator[Setting]:
    for kind in KINDS:
        if kind != LORA:
            yield replace(base, kind=kind)


def _growth(base: Setting) -> Iterator[Setting]:
    for batch in (4, 8, 2):
        yield replace(base, batch=batch)
    for rank in (64, 8, 4):
        yield replace(base, rank=rank)
    for networks in (4, 2):
        yield replace(base, networks=networks)
    for layers in ("attention", "all"):
        yield replace(base, layers=layers)
    for side in _SIDES:
        yield replace(base, size=int(side * base.size))
