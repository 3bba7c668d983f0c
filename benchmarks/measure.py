"""One setting measured: step times of all its arms in turns, memory beyond CFG's, preparation."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.arms import (
    CFG,
    FAST,
    GUIDED,
    PG,
    SECOND_MODEL,
    TWO_PASSES,
    Case,
    Predict,
    prediction,
    sample,
    weakened_copy,
)
from benchmarks.clock import Clock, kernels_of, peak_of, timed
from benchmarks.denoisers import Denoiser
from benchmarks.networks import random_network
from benchmarks.plan import FINE_TUNE, Setting
from lib_pg.deltas import ActiveNetwork
from lib_pg.deltas.merge import merged, parameters_of
from lib_pg.formats.checkpoint import open_checkpoint
from lib_pg.formats.difference import Model
from lib_pg.hosts.base_checkpoint import BaseCheckpoint, compare
from lib_pg.networks import Network
from lib_pg.run import GuidedRun

ROUNDS = (3, 15)  # at least, at most


@dataclass
class Measured:
    """What one setting costs; bytes are of the device's memory, times are seconds.

    Attributes:
        layers_adapted, engines: how many layers the networks change, and how they are weakened.
        network_bytes: of all networks as they lie on the device; 0 for a full fine-tune.
        weight_bytes: of the weights of the layers that they change.
        seconds: of a step, by arm, one number a round: the mean of `steps` steps in succession.
        ratio: by arm, the median over rounds of its seconds to CFG's in the same round.
        extra_bytes: by arm, its peak beyond CFG's, with what it has to hold; None where it is not known.
        attach: of building and attaching a run, for the first picture and the next one.
        first_step: of the run's first step beyond its second, likewise.
        compare, load: of comparing a full fine-tune with its base's file, and of loading that file instead.
        kernels: by arm, how many of them a step has the device run, and their seconds together.
        finite: whether all latents were finite in the end.
    """

    setting: Setting
    steps: int
    layers_adapted: int = 0
    engines: str = ""
    network_bytes: int = 0
    weight_bytes: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    extra_bytes: dict[str, int | None] = field(default_factory=dict)
    attach: list[float] = field(default_factory=list)
    first_step: list[float] = field(default_factory=list)
    compare: float | None = None
    load: float | None = None
    kernels: dict[str, tuple[int, float]] = field(default_factory=dict)
    finite: bool = True

    def as_json(self) -> dict[str, Any]:
        return {"key": self.setting.key, **asdict(self)}


def measure(setting: Setting, denoiser: Denoiser, seconds: float, steps: int) -> Measured:
    """Measure one setting; afterwards the model's weights are bit-identical.

    Args:
        seconds: about what the rounds may take together; there are at least three.
        steps: of an arm's turn, an even number.
    """
    result = Measured(setting, steps)
    with _case(setting, denoiser, result) as case, merged(_networks_of(case)):
        result.layers_adapted = len({module for part in case.parts for module in part.deltas})
        result.network_bytes = sum(part.nbytes for part in case.parts)
        touched = {value for part in case.parts for module in part.deltas for value in module.parameters()}
        result.weight_bytes = sum(value.nbytes for value in touched)
        _Bench(case, result).measure(seconds)
    return result


def count_kernels(setting: Setting, denoiser: Denoiser) -> dict[str, tuple[int, float]]:
    """Return how many kernels a step of CFG, PG and fast PG has the device run, and their seconds together.

    Empty where the device is no GPU. Nothing may be timed in this process afterwards: what torch's profiler
    has turned on makes every later kernel slower to start.
    """
    found = {}
    alone = replace(setting, arms=(CFG, PG, FAST))
    with _case(alone, denoiser, Measured(alone, 0)) as case, merged(_networks_of(case)):
        for arm in alone.arms:
            with prediction(case, arm, case.run(arm) if arm in GUIDED else None) as predict:
                call = partial(predict, case.latents, 0, 2)
                call()
                counted = kernels_of(denoiser.weight.device, call)
            if counted is not None:
                found[arm] = counted
    return found


def _networks_of(case: Case) -> list[ActiveNetwork]:
    """Return what has to be merged: a full fine-tune is in the weights already."""
    return [part for part in case.parts if not case.base]


@contextmanager
def _case(setting: Setting, denoiser: Denoiser, result: Measured) -> Iterator[Case]:
    """Give the model with its networks, which are not in its weights yet."""
    if setting.kind == FINE_TUNE:
        with tempfile.TemporaryDirectory() as folder:
            base = _base(denoiser, Path(folder), result)
            yield Case(denoiser, setting.batch, setting.size, base=base)
        return
    networks: list[Network] = [
        random_network(denoiser.module, setting.kind, setting.rank, setting.layers, seed)
        for seed in range(setting.networks)
    ]
    second = weakened_copy(denoiser, networks) if SECOND_MODEL in setting.arms else None
    yield Case(denoiser, setting.batch, setting.size, networks, second=second)


def _base(denoiser: Denoiser, folder: Path, result: Measured) -> BaseCheckpoint:
    """Return the base of a full fine-tune, read from a file in which every parameter has another value."""
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.parent.mkdir()
    state = denoiser.module.state_dict()
    save_file({name: (value * 0.98 + 1e-3).cpu().contiguous() for name, value in state.items()}, path)
    device = denoiser.weight.device

    result.load = _seconds_to_load(path, denoiser)
    models = {"U-Net": Model("unet", "unet", denoiser.module)}
    result.compare, base = timed(
        device, lambda: compare(open_checkpoint(folder), models, parameters_of, "the model", print)
    )
    return base


def _seconds_to_load(path: Path, denoiser: Denoiser) -> float:
    device = denoiser.weight.device
    other = copy.deepcopy(denoiser.module)
    seconds, _ = timed(device, lambda: other.load_state_dict(load_file(path, device=str(device))))
    return seconds


class _Bench:
    """All arms of one case."""

    def __init__(self, case: Case, result: Measured) -> None:
        self._case = case
        self._result = result
        self._device = case.denoiser.weight.device
        self._clock = Clock(self._device)
        self._runs: dict[str, GuidedRun[Tensor]] = {}

    def measure(self, seconds: float) -> None:
        result = self._result
        arms = result.setting.arms
        self._turn(CFG)  # the first call of a process, or at a new size, is slow
        alone, _ = peak_of(self._device, lambda: self._turn(CFG))
        peak, _ = peak_of(self._device, self._prepare)
        self._note_memory(PG, peak, alone)
        for arm in arms:
            if arm not in (CFG, PG):
                peak, _ = peak_of(self._device, partial(self._turn, arm))
                self._note_memory(arm, peak, alone)
        self._runs = {
            arm: self._prepare() if arm == PG else self._case.run(arm) for arm in arms if arm in GUIDED
        }
        result.engines = self._runs[PG].describe().partition("U-Net: ")[2]
        self._take_turns(seconds)

    def _prepare(self) -> GuidedRun[Tensor]:
        """Return a run of PG after its first steps, whose times are noted."""

        def attach() -> tuple[GuidedRun[Tensor], Predict]:
            run = self._case.run(PG)
            return run, stack.enter_context(prediction(self._case, PG, run))

        with ExitStack() as stack:
            attached, (run, predict) = timed(self._device, attach)
            call = partial(predict, self._case.latents, 0, 1)
            first, second = (timed(self._device, call)[0] for _ in range(2))
        self._result.attach.append(attached)
        self._result.first_step.append(first - second)
        return run

    def _turn(self, arm: str) -> float:
        """Sample once and return the mean seconds of a step; a run that is not kept is made for it."""
        run = self._runs.get(arm)
        if run is None and arm in GUIDED:
            run = self._case.run(arm)
        with prediction(self._case, arm, run) as predict:
            x = sample(self._case, predict, self._result.steps, self._clock.start)
            seconds = self._clock.stop()
        self._result.finite &= bool(x.isfinite().all())
        return seconds / self._result.steps

    def _take_turns(self, budget: float) -> None:
        """Run every arm once a round, each round in another order."""
        result = self._result
        arms = list(result.setting.arms)
        result.seconds = {arm: [] for arm in arms}
        least, most = ROUNDS
        end = time.monotonic() + budget
        for turn in range(most):
            if turn >= least and time.monotonic() > end:
                break
            first = turn % len(arms)
            for arm in arms[first:] + arms[:first]:
                result.seconds[arm].append(self._turn(arm))
        for arm, times in result.seconds.items():
            pairs = zip(times, result.seconds[CFG], strict=True)
            result.ratio[arm] = median(own / cfg for own, cfg in pairs)

    def _note_memory(self, arm: str, peak: int | None, alone: int | None) -> None:
        """Note what an arm takes beyond CFG: it may have to hold the networks, or another model."""
        held = self._result.network_bytes
        if arm == TWO_PASSES:
            held = 0
        elif arm == SECOND_MODEL and self._case.second is not None:
            held = sum(value.nbytes for value in self._case.second.module.parameters())
        known = peak is not None and alone is not None
        self._result.extra_bytes[arm] = held + peak - alone if known else None
