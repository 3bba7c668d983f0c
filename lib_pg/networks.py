"""Which networks the weak branch weakens, by how much, and what the user is told about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lib_pg.accelerators import Sampling, Verdict, judge
from lib_pg.deltas.base import ActiveNetwork
from lib_pg.settings import Settings

_PLAIN = "plain CFG is used, with your negative prompt"


@dataclass(frozen=True, eq=False)
class Network:
    """A network that is in a pipeline's weights for the current pass.

    Attributes:
        name: what the user calls it.
        parts: what it adds to each model, by component: `unet`, `te1` (the first text encoder), `te2`.
        own_ratio: omega in [0, 1] for this network alone (`pg=0.3`), or None to follow the settings.
        metadata: the text pairs in the header of its file.
        base: the checkpoint that the loaded one, `name`, started from: this is what it has learned since.
            Empty for a network of a file.
        reason: why nothing of it can be weakened, as a sentence for the user; empty where that is not known.
    """

    name: str
    parts: Mapping[str, ActiveNetwork]
    own_ratio: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    reason: str = ""

    @property
    def strength(self) -> float:
        """The multiplier that the user gave it, that for the U-Net where there are several."""
        return self._first.strength if self.parts else 1.0

    @property
    def has_own_strength(self) -> bool:
        """Whether the weak branch has it at a multiplier of its own (`weak=0.4`)."""
        return bool(self.parts) and self._first.weak_strength is not None

    def weak_at(self, ratio: float) -> float:
        """Return the multiplier in the weak branch where omega is `ratio`."""
        return self._first.weak_at(ratio) if self.parts else ratio

    def with_weak_strength(self, strength: float | None) -> Network:
        """Return the same network at a multiplier of its own in the weak branch; None changes nothing."""
        if strength is None:
            return self
        parts = {name: replace(part, weak_strength=strength) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    @property
    def _first(self) -> ActiveNetwork:
        return next(iter(self.parts.values()))

    @property
    def is_accelerator(self) -> bool:
        """Whether name and header of the file say that it distils sampling to few steps (LCM, Turbo, ...)."""
        return self.accelerates == "yes"

    @property
    def accelerates(self) -> Verdict:
        """Whether it distils sampling to few steps; maybe, where that cannot be told."""
        return judge(self.name, self.metadata)


@dataclass(frozen=True)
class Plan:
    """What the weak branch does to each active network.

    Attributes:
        fixed: for each network its own omega, or None where it follows omega of the settings.
        notes: sentences for the user: what would surprise, and what to do about it.
        weakens: whether any network may have another strength in the weak branch.
        remarks: sentences on what was decided in the user's stead, for who looks: nothing is amiss.
    """

    fixed: tuple[float | None, ...]
    notes: tuple[str, ...] = ()
    weakens: bool = False
    remarks: tuple[str, ...] = ()

    def ratios(self, omega: float) -> tuple[float, ...]:
        """Return omega for each network when the settings' is `omega`, in [0, 1]."""
        return tuple(omega if ratio is None else ratio for ratio in self.fixed)


def plan(
    settings: Settings,
    networks: Sequence[Network],
    sampling: Sampling | None = None,
    absent: Mapping[str, str] | None = None,
    known: Sequence[str] = (),
) -> Plan:
    """Decide for each active network whether it is weakened: its own strength wins, then its own
    ratio, then the list of names.

    Args:
        settings: `networks` names those to weaken; empty means all but accelerators that the run needs.
        networks: the active ones.
        sampling: how the run samples; None where that is not known, then accelerators count as needed.
        absent: networks that were asked for and are not active, with a sentence on the cause.
        known: further sentences, on what of the run cannot be weakened.
    """
    named = {name.casefold() for name in settings.network_names}
    absent = absent or {}
    fixed: list[float | None] = []
    notes = list(dict.fromkeys([*absent.values(), *known]))
    remarks: list[str] = []
    for network in networks:
        if network.base:
            fixed.append(None)
            if not network.parts:
                notes.append(
                    f"{network.base} has the very weights of {network.name}; choose what it started from"
                )
        elif not network.parts:
            fixed.append(1.0)
            other_model = f"nothing of {network.name} can be weakened here; it may be made for another model"
            notes.append(network.reason or other_model)
        elif network.has_own_strength:
            fixed.append(1.0)  # not read
        elif network.own_ratio is not None:
            fixed.append(network.own_ratio)
        elif named:
            fixed.append(None if network.name.casefold() in named else 1.0)
        else:
            is_spared = network.is_accelerator and (sampling is None or sampling.needs_accelerators)
            fixed.append(1.0 if is_spared else None)
            if network.is_accelerator:
                remarks.append(_on_accelerator(network.name, is_spared, sampling))
            elif network.accelerates == "maybe" and sampling is not None and sampling.has_few_steps:
                notes.append(_on_doubt(network.name, sampling))
    loaded = [network for network in networks if not network.base]
    accounted = {name.casefold() for name in [*absent, *(network.name for network in loaded)]}
    notes += [
        f"network {name!r} is to be weakened but is not active; active are: {_listing(loaded)}"
        for name in settings.network_names
        if name.casefold() not in accounted
    ]
    if settings.schedule != "Constant" and settings.weak_ratio == settings.weak_ratio_end:
        notes.append(_on_flat(settings))
    pairs = list(zip(networks, fixed, strict=True))
    weakens = any(
        network.weak_at(0.0 if ratio is None else ratio) != network.strength for network, ratio in pairs
    )
    if not weakens:
        causes = "; ".join([*notes, *remarks])  # one notice for one cause
        end = f"nothing is left to weaken: {_PLAIN}"
        notes = [f"{causes}. So {end}" if causes else f"no network to weaken, so {_PLAIN}; add a network"]
        remarks = []
    return Plan(tuple(fixed), tuple(notes), weakens, tuple(remarks))


def describe(networks: Sequence[Network], ratios: Sequence[float]) -> str:
    """Say what becomes of each network, such as `dog 1 -> 0.7 in the weak branch; detail 0.6 unchanged`."""
    parts = []
    for network, ratio in zip(networks, ratios, strict=True):
        strong, weak = network.strength, network.weak_at(ratio)
        if network.base:
            parts.append(f"{network.name} -> {weak:g} of what it adds to {network.base} in the weak branch")
            continue
        if not strong and weak:
            parts.append(f"{network.name} {weak:g} in the weak branch alone")
            continue
        change = "unchanged" if weak == strong else f"-> {weak:g} in the weak branch"
        parts.append(f"{network.name} {strong:g} {change}")
    return "; ".join(parts)


def _on_accelerator(name: str, is_spared: bool, sampling: Sampling | None) -> str:
    if is_spared:
        known = f", as {sampling} need it" if sampling is not None else ""
        return (
            f"{name} is an accelerator by its name or file and is not weakened{known}; "
            "choose it under Networks or write :pg=0.7 in its tag to weaken it"
        )
    return (
        f"{name} is an accelerator by its name or file, but {sampling} need none, so it is weakened, too; "
        "write :pg=1 in its tag to keep it"
    )


def _on_flat(settings: Settings) -> str:
    return (
        f"the schedule {settings.schedule} goes from {settings.weak_ratio:g} to {settings.weak_ratio_end:g}, "
        "so the weak ratio is the same at all steps; choose another weak ratio end"
    )


def _on_doubt(name: str, sampling: Sampling) -> str:
    return (
        f"{name} may be an accelerator and is weakened; at {sampling} that would make the weak branch noise. "
        "If it is one, write :pg=1 in its tag; if not, choose it under Networks and this is not asked again"
    )


def _listing(networks: Sequence[Network]) -> str:
    return ", ".join(network.name for network in networks) or "none"
