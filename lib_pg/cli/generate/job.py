"""One request for pictures. Light to import: the options of the command are made from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lib_pg.cli.errors import UsageError
from lib_pg.prompt import Own
from lib_pg.settings import Settings

_GUIDED = Settings(enabled=True)

RANK_MAX = 4096
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class LoraUse:
    """A network as it is asked for: its name, its strength, and what it is to be in the weak branch."""

    name: str
    strength: float = 1.0
    own: Own = field(default_factory=Own)

    def tag(self) -> str:
        """Return it in WebUIs' prompt syntax."""
        named = {"pg": self.own.ratio, "weak": self.own.strength}
        own = "".join(f":{name}={value!r}" for name, value in named.items() if value is not None)
        return f"<lora:{self.name}:{self.strength!r}{own}>"


@dataclass(frozen=True)
class Job:
    """What is asked for, apart from the files.

    Attributes:
        seed: of the first picture of the batch; picture i has seed + i.
        width, height: pixels, or None for the model's own.
        batch: pictures in one batch.
        weak_memory: rank to which the differences from a base checkpoint are cut; 0 keeps them exact.
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

    def __post_init__(self) -> None:
        _check("steps", self.steps, 1, 1000)
        _check("CFG scale", self.scale, 0.0, 100.0)
        _check("seed", self.seed, 0, 2**63 - 1 - self.batch)
        _check("weak memory", self.weak_memory, 0, RANK_MAX)
        _check("batch size", self.batch, 1, 64)
        for name, pixels in (("width", self.width), ("height", self.height)):
            if pixels is not None:
                _check(name, pixels, 16, 8192)
        if self.dtype not in DTYPES:
            raise UsageError(f"precision is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        if "<lora:" in self.prompt:
            raise UsageError(
                "the prompt holds <lora:...>; here networks are given with --lora PATH[:strength]"
            )


def with_lora(job: Job, name: str, strength: float | None, own: Own) -> Job:
    """Return the job with a network added or, where it has it, with what is given (not None) changed."""
    loras = {lora.name: lora for lora in job.loras}
    had = loras.get(name, LoraUse(name))
    loras[name] = LoraUse(
        name,
        had.strength if strength is None else strength,
        Own(
            had.own.ratio if own.ratio is None else own.ratio,
            had.own.strength if own.strength is None else own.strength,
        ),
    )
    return replace(job, loras=tuple(loras.values()))


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value}; it must lie between {low} and {high}")
