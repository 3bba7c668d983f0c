"""The ways to make a step's weak rows that are compared, over the least host there can be.

CFG                 one call of the model with both rows, its own weights
PG, AG              the same call, the weak rows weakened by this project's engine
PG, fast            PG that keeps weak and full weights of linear layers as one (`GuidedRun(fast=True)`)
PG, falling         PG whose omega is another at every step, from 0.9 to 0.5
PG, then None       PG in the first half of the steps, no weak rows in the second (`outside: None`)
two passes          both rows in calls of their own, the weights as they are: what methods cost that call
                    the model twice
re-merge            the same, the network taken down and put back between them, in the weights
second model        the same, the weak row by another model, already weakened, in memory
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.denoisers import Denoiser
from lib_pg.deltas import ActiveNetwork, Parameters
from lib_pg.deltas.merge import add_networks, originals_of
from lib_pg.guidance import guide
from lib_pg.hosts.base_checkpoint import BaseCheckpoint
from lib_pg.networks import Network
from lib_pg.run import GuidedRun
from lib_pg.settings import Settings
from lib_pg.weak_branch import is_torch_s

CFG, PG, FAST, AG, FALLING, HALF = "CFG", "PG", "PG, fast", "AG", "PG, falling", "PG, then None"
FAST_HALF = "PG, fast, then None"
TWO_PASSES, RE_MERGE, SECOND_MODEL = "two passes", "re-merge", "second model"
ARMS = (CFG, PG, FAST, AG, FALLING, HALF, FAST_HALF, TWO_PASSES, RE_MERGE, SECOND_MODEL)

WEAK_RATIO = 0.7
_SCALE = 7.5
_STEP = 0.02
_HALF = Settings(enabled=True, mode="PG", weak_ratio=WEAK_RATIO, end=0.5, outside="None")
_PG = Settings(enabled=True, mode="PG", weak_ratio=WEAK_RATIO)
GUIDED = {
    PG: _PG,
    FAST: _PG,
    AG: Settings(enabled=True, mode="AG", weak_ratio=WEAK_RATIO),
    FALLING: Settings(enabled=True, mode="PG", schedule="Linear", weak_ratio=0.9, weak_ratio_end=0.5),
    HALF: _HALF,
    FAST_HALF: _HALF,
}

# Makes a step's prediction of latents, step and number of steps: weak rows first, then as many strong ones.
Predict = Callable[[Tensor, int, int], Tensor]


@dataclass(eq=False)
class Case:
    """A model with its networks in its weights, and what it is called with.

    Attributes:
        size: pixels a side.
        base: what the model started from, for a full fine-tune.
    """

    denoiser: Denoiser
    batch: int
    size: int
    networks: Sequence[Network] = ()
    base: BaseCheckpoint | None = None
    second: Denoiser | None = None
    latents: Tensor = field(init=False)
    texts: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.latents = self.denoiser.latents(self.batch, self.size)
        prompt, negative = (self.denoiser.text(self.batch, seed) for seed in (1, 2))
        # As with an empty negative prompt: what the arms return can be compared.
        self.texts = {"prompt": prompt, "negative": negative, "null": negative}

    @property
    def parts(self) -> list[ActiveNetwork]:
        """What is weakened in the model."""
        networks = [*([self.base.network] if self.base else []), *self.networks]
        return [network.parts["unet"] for network in networks]

    def run(self, arm: str) -> GuidedRun[Tensor]:
        """Return the guided run of an arm that has one."""
        kept = self.base.kept if self.base else None
        return GuidedRun(_Host(self), GUIDED[arm], kept=kept, fast=arm in (FAST, FAST_HALF))

    def call(self, model: Denoiser, rows: Tensor, text: Tensor, step: int) -> Tensor:
        return model(rows, text, rows.new_full((), 999.0 - step))


class _Host:
    """The host protocol over one case."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def networks(self) -> Sequence[Network]:
        return [*([self._case.base.network] if self._case.base else []), *self._case.networks]

    def weak_rows(self, total: int) -> Sequence[int]:
        return range(total // 2)

    def pristine(self, module: nn.Module) -> Parameters | None:
        of_base = self._case.base.pristine(module) if self._case.base else None
        return originals_of(module) if of_base is None else of_base

    def is_product(self, module: nn.Module, forward: Callable[..., object]) -> bool:
        return is_torch_s(forward)

    def unet(self) -> nn.Module:
        return self._case.denoiser.module

    def strengths(self) -> None:
        return None

    def settle(self, module: nn.Module) -> None:
        """Nothing: strengths stay."""

    def null_prompt(self, ratios: Sequence[float]) -> Tensor:
        return self._case.texts["null"]

    def warn(self, message: str) -> None:
        raise RuntimeError(f"nothing may be said in a benchmark: {message}")


@contextmanager
def prediction(case: Case, arm: str, run: GuidedRun[Tensor] | None = None) -> Iterator[Predict]:
    """Give what predicts in an arm; when the block is left, nothing of it is on the model.

    Args:
        run: the arm's guided run, where it has one.
    """
    if run is not None:
        with run:
            yield partial(_guided, case, run)
    elif arm == CFG:
        yield partial(_at_once, case)
    elif arm == TWO_PASSES:
        yield partial(_in_two_calls, case, case.denoiser, lambda change: None)
    elif arm == RE_MERGE:
        yield partial(_in_two_calls, case, case.denoiser, partial(add_networks, case.parts))
    else:
        assert arm == SECOND_MODEL and case.second is not None
        yield partial(_in_two_calls, case, case.second, lambda change: None)


def sample(case: Case, predict: Predict, steps: int, started: Callable[[], None] = lambda: None) -> Tensor:
    """Sample by Euler's method and return the latents; before `started` the first step is done once more."""
    predict(case.latents, 0, steps)
    started()
    x = case.latents
    for step in range(steps):
        weak, strong = predict(x, step, steps).chunk(2)
        x = x - _STEP * guide(weak, strong, _SCALE)
    return x


def weakened_copy(denoiser: Denoiser, networks: Sequence[Network]) -> Denoiser:
    """Return a second model in memory with the networks in its weights as the weak branch has them.

    Args:
        denoiser: the model without networks.
    """
    module = copy.deepcopy(denoiser.module)
    names = {layer: name for name, layer in denoiser.module.named_modules()}
    for network in networks:
        part = network.parts["unet"]
        there = {module.get_submodule(names[layer]): delta for layer, delta in part.deltas.items()}
        add_networks([ActiveNetwork(part.name, there, part.strength)], WEAK_RATIO)
    return Denoiser(denoiser.family, module)


def _at_once(case: Case, x: Tensor, step: int, steps: int) -> Tensor:
    text = torch.cat([case.texts["negative"], case.texts["prompt"]])
    return case.call(case.denoiser, torch.cat([x, x]), text, step)


def _guided(case: Case, run: GuidedRun[Tensor], x: Tensor, step: int, steps: int) -> Tensor:
    rows = 2 * len(x)
    call = run.next_call(step, steps, rows)
    run.enter_unet(rows)
    try:
        if call.skip_weak_rows:
            strong = case.call(case.denoiser, x, case.texts["prompt"], step)
            return torch.cat([strong, strong])
        text = torch.cat([case.texts[call.conditioning], case.texts["prompt"]])
        return case.call(case.denoiser, torch.cat([x, x]), text, step)
    finally:
        run.leave_unet()


def _in_two_calls(
    case: Case, other: Denoiser, change: Callable[[float], None], x: Tensor, step: int, steps: int
) -> Tensor:
    """Predict the weak rows with `other`, between `change(omega - 1)` and its reverse."""
    change(WEAK_RATIO - 1.0)
    weak = case.call(other, x, case.texts["negative"], step)
    change(1.0 - WEAK_RATIO)
    return torch.cat([weak, case.call(case.denoiser, x, case.texts["prompt"], step)])
