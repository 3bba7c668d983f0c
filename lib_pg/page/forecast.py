"""What will happen for the current prompt and settings, in a line, before anything runs."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lib_pg.guidance import weak_ratio_at
from lib_pg.prompt import PromptNetwork, parse_networks
from lib_pg.settings import NO_CHECKPOINT, Settings, SettingsError

if TYPE_CHECKING:  # these need torch, which is loaded when there is something to say of networks
    from lib_pg.networks import Network

_LISTED = 12
_NAME_SHOWN = 60

Metadata = Callable[[str], Mapping[str, str]]


def no_metadata(name: str) -> Mapping[str, str]:
    """Return nothing known of any network; the default for `forecast`."""
    return {}


def forecast(
    values: Sequence[Any],
    prompt: str,
    cfg_scale: float | None,
    metadata: Metadata = no_metadata,
    is_listed: Callable[[str], bool] = lambda checkpoint: True,
) -> list[str]:
    """Say what these values of the controls will do with this prompt, in sentences.

    Args:
        values: one for each control, in the order of the settings.
        prompt: as the user typed it.
        cfg_scale: the host's; None where it is not known.
        metadata: the text pairs in the header of a network's file, by the name of the network.
        is_listed: whether the host has a checkpoint of that name.
    """
    try:
        settings = Settings.from_list(list(values))
    except SettingsError as error:
        return [f"Will not run: {error}"]
    reason = _why_not(settings, cfg_scale)
    if reason:
        return [reason]
    wanted = parse_networks(prompt)
    sentences = [network.problem for network in wanted if network.problem][:_LISTED]
    if settings.base_checkpoint != NO_CHECKPOINT and not is_listed(settings.base_checkpoint):
        sentences.append(_not_listed(settings.base_checkpoint))
        settings = replace(settings, base_checkpoint=NO_CHECKPOINT)
    return [*_networks(settings, wanted, metadata), *sentences]


def forecast_html(*arguments: Any) -> str:
    """Return what `forecast` says of the same arguments as safe HTML."""
    return as_html(forecast(*arguments))


def as_html(sentences: Sequence[str]) -> str:
    """Return sentences as one safe block of HTML that screen readers announce when it changes."""
    body = "<br>".join(html.escape(sentence) for sentence in sentences)
    return f'<div class="pg-note" role="status" aria-live="polite">{body}</div>'


def _why_not(settings: Settings, cfg_scale: float | None) -> str:
    if not settings.enabled:
        return "Off: pictures are made as if the extension were not there."
    if settings.mode == "CFG":
        return "Mode CFG: the host's own guidance, nothing changes. Choose PG or AG to guide."
    if cfg_scale is not None and cfg_scale == 1:
        return "Nothing will happen: at CFG scale 1 there is no guidance. Raise the CFG scale."
    if settings.start == settings.end:
        return "Nothing will happen: Start equals End. Lower Start or raise End."
    return ""


def _networks(settings: Settings, wanted: Sequence[PromptNetwork], metadata: Metadata) -> list[str]:
    from lib_pg.networks import describe, plan

    active = [_network(network, metadata) for network in wanted if network.name]
    if settings.base_checkpoint != NO_CHECKPOINT:
        active.insert(0, _fine_tune(settings.base_checkpoint))
    decided = plan(settings, active)
    if not decided.weakens:
        return [_sentence(note) for note in decided.notes]
    shown = slice(0, _LISTED)
    first = describe(active[shown], decided.ratios(_ratio(settings, last=False))[shown])
    sentences = [_sentence(first + _more(active))]
    if _ratio(settings, last=True) != _ratio(settings, last=False):
        last = describe(active[shown], decided.ratios(_ratio(settings, last=True))[shown])
        sentences.append(_sentence(f"At the last step: {last}{_more(active)}"))
    return [*sentences, *map(_sentence, decided.notes[:_LISTED])]


def _ratio(settings: Settings, last: bool) -> float:
    return weak_ratio_at(1 if last else 0, 2, settings.schedule, settings.weak_ratio, settings.weak_ratio_end)


def _network(wanted: PromptNetwork, metadata: Metadata) -> Network:
    from lib_pg.deltas.base import ActiveNetwork
    from lib_pg.networks import Network

    name = wanted.name if len(wanted.name) <= _NAME_SHOWN else wanted.name[:_NAME_SHOWN] + "..."
    part = ActiveNetwork(name, {}, wanted.unet_strength, wanted.own.strength)
    return Network(name, {"unet": part}, wanted.own.ratio, metadata(wanted.name))


def _not_listed(base: str) -> str:
    return f"Base checkpoint {base!r} is none of the host's and will not be used; choose one of its list."


def _fine_tune(base: str) -> Network:
    from lib_pg.deltas.base import ActiveNetwork
    from lib_pg.networks import Network

    name = "the checkpoint"
    return Network(name, {"unet": ActiveNetwork(name, {})}, base=base)


def _more(active: Sequence[Network]) -> str:
    return f"; and {len(active) - _LISTED} more" if len(active) > _LISTED else ""


def _sentence(text: str) -> str:
    return f"{text}." if not text.endswith(".") else text
