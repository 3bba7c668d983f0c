"""The methods that are compared: each with its settings, all at the same guidance scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib_pg.settings import Settings

SCALES = (1.25, 1.75, 2.5, 3.5, 5.0)


@dataclass(frozen=True)
class Method:
    """One way to guide.

    Attributes:
        name: what tables, plots and records call it.
        settings: as for `generate`.
        scales: the guidance scales at which it is tried; every method gets the best of its own.
        about: what it is, in a few words.
    """

    name: str
    settings: Settings
    scales: tuple[float, ...] = SCALES
    about: str = ""


def _with(mode: str, omega: float = 0.5, **others: Any) -> Settings:
    values = {"enabled": True, "mode": mode, "weak_ratio": omega, "weak_ratio_end": omega}
    return Settings.from_dict({**values, **others})


_OMEGAS = (0.25, 0.5, 0.75)
METHODS = (
    Method("CFG", Settings(enabled=True, mode="CFG"), about="classifier-free guidance, the host's own"),
    *(Method(f"AG {omega:g}", _with("AG", omega), about="autoguidance, one omega") for omega in _OMEGAS),
    Method("PG 0", _with("PG", 0.0), about="PG with the base model's null branch"),
    *(Method(f"PG {omega:g}", _with("PG", omega), about="PG, one omega") for omega in _OMEGAS),
    Method(
        "PG 1 to 0",
        _with("PG", 1.0, schedule="Cosine", weak_ratio_end=0.0),
        about="omega near 1 in the early steps, near 0 in the late ones, along a cosine",
    ),
    Method(
        "PG 0 to 1",
        _with("PG", 0.0, schedule="Cosine", weak_ratio_end=1.0),
        about="omega near 0 in the early steps, near 1 in the late ones, along a cosine",
    ),
    Method("PG early, CFG", _with("PG", end=0.5), about="PG 0.5 in the first half, CFG after it"),
    Method("CFG, PG late", _with("PG", start=0.5), about="CFG in the first half, PG 0.5 after it"),
    Method(
        "PG early, None",
        _with("PG", end=0.5, outside="None"),
        about="PG 0.5 in the first half, no guidance after it: three quarters of the cost",
    ),
    Method(
        "PG middle, None",
        _with("PG", start=0.25, end=0.75, outside="None"),
        about="PG 0.5 in the middle half, no guidance around it: three quarters of the cost",
    ),
    Method(
        "CFG early, None",
        _with("PG", 1.0, end=0.5, outside="None"),
        about="CFG in the first half, no guidance after it: what the one with PG must beat",
    ),
)


def described(methods: tuple[Method, ...] = METHODS) -> dict[str, dict[str, Any]]:
    """Return the methods as the head of a file of records has them: settings that differ from defaults."""
    return {
        method.name: {
            "settings": method.settings.non_default(),
            "scales": list(method.scales),
            "about": method.about,
        }
        for method in methods
    }
