"""One request for pictures. Light to import: the options of the command are made from it."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.networks import LoraUse
from lib_pg.cli.samplers import MODELS_OWN, check_sampler
from lib_pg.settings import Settings

_GUIDED = Settings(enabled=True)

RANK_MAX = 4096
BATCH_MAX = 64
DENOISE_DEFAULT = 0.75
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Job:
    """What is asked for, apart from the files.

    Attributes:
        prompt: what is drawn, without tags of networks.
        seed: of the first picture of the batch; picture i has seed + i.
        width, height: pixels, or None for the model's own.
        batch: pictures in one batch.
        weak_memory: rank to which the differences from a base checkpoint are cut; 0 keeps them exact.
        fast: whether memory is spent on steps that take less time to start.
        schedule_type: how the noise falls; empty for the model's own way.
        denoise: how much of the picture that it starts from is drawn anew, 0 to 1; None where it starts from
            noise alone.
    """

    prompt: str = ""
    negative: str = ""
    steps: int = 25
    sampler: str = "DPM++ 2M"
    scale: float = 7.5
    seed: int = 0
    width: int | None = None
    height: int | None = None
    batch: int = 1
    dtype: str = "float32"
    settings: Settings = _GUIDED
    loras: tuple[LoraUse, ...] = ()
    weak_memory: int = 0
    fast: bool = False
    schedule_type: str = MODELS_OWN
    denoise: float | None = None

    def __post_init__(self) -> None:
        _check("steps", self.steps, 1, 1000)
        _check("CFG scale", self.scale, 0.0, 100.0)
        _check("seed", self.seed, 0, 2**63 - 1 - self.batch)
        _check("weak memory", self.weak_memory, 0, RANK_MAX)
        _check("batch size", self.batch, 1, BATCH_MAX)
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None:
                _check(name, pixels, 16, 8192)
        if self.denoise is not None:
            _check("denoise", self.denoise, 0.0, 1.0)
            if int(self.steps * self.denoise) < 1:
                raise UsageError(
                    f"denoise {self.denoise:g} of {self.steps} steps leaves none to make; raise one of them"
                )
        if self.dtype not in DTYPES:
            raise UsageError(f"precision is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        check_sampler(self.sampler, self.schedule_type)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}; it must lie between {low} and {high}")
