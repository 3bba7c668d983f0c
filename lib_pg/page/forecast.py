"""What will happen for the current prompt and settings, in a line, before anything runs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lib_pg.accelerators import Sampling
from lib_pg.guidance import is_inside, weak_ratio_at
from lib_pg.page import sentences
from lib_pg.page.prompt_networks import PromptNetworks, read_prompt
from lib_pg.page.situation import HostFiles, Situation
from lib_pg.settings import CONTROLS, NO_CHECKPOINT, Settings, SettingsError

if TYPE_CHECKING:  # needs torch, which is loaded when there is something to say of networks
    from lib_pg.networks import Network

_LISTED = 12
# Stands for any number of steps where it is not known.
_MANY = 1000
_DIGITS = 4


def forecast(values: Sequence[Any], situation: Situation, files: HostFiles | None = None) -> list[str]:
    """Say what these values of the controls will do to the coming picture, in sentences.

    Args:
        values: one for each control, in the order of the settings.
        situation: what else the page says of the picture.
        files: what the host has on its disk.
    """
    try:
        settings = Settings.from_list(list(values))
    except SettingsError as error:
        return [f"Will not run: {error}."]
    said = []
    if situation.axes:
        said = [sentences.set_by_axes([CONTROLS[name].label for name in situation.axes])]
        settings = _within_grid(settings, situation.axes)
    if reason := _why_not(settings, situation):
        return [*said, reason]
    return [*said, *_Forecast(settings, situation, files or HostFiles()).said()]


def forecast_html(values: Sequence[Any], situation: Situation, files: HostFiles) -> str:
    """Return what `forecast` says as safe HTML."""
    return as_html(forecast(values, situation, files))


def as_html(said: Sequence[str]) -> str:
    """Return sentences as one safe block of HTML that screen readers announce when it changes."""
    body = "<br>".join(html.escape(sentence) for sentence in said)
    return f'<div class="pg-note" role="status" aria-live="polite">{body}</div>'


def _within_grid(settings: Settings, axes: Sequence[str]) -> Settings:
    """Return the settings as they are in a cell that guides."""
    mode = "PG" if "mode" in axes and settings.mode == "CFG" else settings.mode
    return replace(settings, enabled=True, mode=mode)


def _why_not(settings: Settings, situation: Situation) -> str:
    if not settings.enabled:
        return sentences.OFF
    if settings.mode == "CFG":
        return sentences.MODE_CFG
    if situation.cfg_scale == 1 and not _second_is_guided(settings, situation):
        return sentences.SCALE_1
    if not _guided_steps(settings, _known_steps(situation)):
        return sentences.no_step(settings, _known_steps(situation))
    return ""


def _second_is_guided(settings: Settings, situation: Situation) -> bool:
    """Whether hires fix has a CFG scale of its own, which the first pass's says nothing of."""
    second = situation.second_pass
    return second is not None and settings.hires != "Off" and second.cfg_scale not in (None, 1)


def _known_steps(situation: Situation) -> int | None:
    return situation.steps if situation.runs_all_steps else None


def _guided_steps(settings: Settings, steps: int | None) -> range:
    """Return which of the steps, or of many, are guided."""
    count = steps or _MANY
    inside = [step for step in range(count) if is_inside(step, count, settings.start, settings.end)]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


@dataclass(frozen=True)
class _Forecast:
    settings: Settings
    situation: Situation
    files: HostFiles

    def said(self) -> list[str]:
        settings, notes = self._usable()
        first = read_prompt(self.situation.prompt, self.files)
        if self.situation.cfg_scale == 1:
            body, guides = [sentences.FIRST_SCALE_1], False
        else:
            sampling = _sampling(self.situation.steps, self.situation.cfg_scale)
            body, guides = self._pass(settings, first, _known_steps(self.situation), sampling)
        if guides:
            body += self._on_prompts(settings) + self._on_steps(settings)
            body += [sentences.REFINER] if self.situation.refiner else []
        second = self._on_second_pass(settings, first)
        if not guides:  # the cause comes first
            return [*first.problems, *body, *second, *notes]
        return [*body, *second, *first.problems, *notes]

    def _usable(self) -> tuple[Settings, list[str]]:
        """Return the settings without a base checkpoint that the host has not."""
        base = self.settings.base_checkpoint
        if base == NO_CHECKPOINT or self.files.has_checkpoint(base):
            return self.settings, []
        return replace(self.settings, base_checkpoint=NO_CHECKPOINT), [sentences.no_checkpoint(base)]

    def _pass(
        self, settings: Settings, prompt: PromptNetworks, steps: int | None, sampling: Sampling | None
    ) -> tuple[list[str], bool]:
        """Say what becomes of each network in a pass of so many steps, and whether anything does."""
        from lib_pg.networks import describe, plan

        active = list(prompt.active)
        if settings.base_checkpoint != NO_CHECKPOINT:
            active.insert(0, _fine_tune(settings.base_checkpoint))
        names = [network.name for network in active]
        decided = plan(settings, active, sampling)
        notes = [sentences.sentence(note, names) for note in (*decided.notes, *decided.remarks)[:_LISTED]]
        if not decided.weakens:
            return [sentences.as_far_as_known(notes[0], names), *notes[1:]], False

        def at(step: int) -> str:
            first, last = settings.weak_ratio, settings.weak_ratio_end
            omega = round(weak_ratio_at(step, steps or _MANY, settings.schedule, first, last), _DIGITS)
            ratios = decided.ratios(omega)[:_LISTED]
            more = f"; and {len(active) - _LISTED} more" if len(active) > _LISTED else ""
            return sentences.sentence(describe(active[:_LISTED], ratios) + more, names)

        guided = _guided_steps(settings, steps)
        said = [at(guided[0])]
        if at(guided[-1]) != said[0]:
            said.append(f"At the last guided step: {at(guided[-1])}")
        if self.situation.may_change:
            said.append(sentences.MAY_CHANGE)
        return [*said, *notes], True

    def _on_prompts(self, settings: Settings) -> list[str]:
        return sentences.on_prompts(settings, self.situation.prompt, self.situation.negative)

    def _on_steps(self, settings: Settings) -> list[str]:
        known = _known_steps(self.situation)
        steps = _guided_steps(settings, known)
        if len(steps) == (known or _MANY):
            return []
        return [sentences.interval(settings, steps if known else None, known, self.situation.prompt)]

    def _on_second_pass(self, settings: Settings, first: PromptNetworks) -> list[str]:
        second = self.situation.second_pass
        if second is None:
            return []
        if settings.hires == "Off":
            return [sentences.SECOND_OFF]
        if (second.cfg_scale or self.situation.cfg_scale) == 1:
            return [sentences.SECOND_SCALE_1]
        own = read_prompt(second.prompt, self.files)
        if settings.hires == "Own":
            settings = replace(settings, weak_ratio=settings.hires_weak_ratio)
        elif own.same_as(first) and self.situation.cfg_scale != 1 and not second.steps:
            return [sentences.SECOND_SAME]
        steps, scale = second.steps or self.situation.steps, second.cfg_scale or self.situation.cfg_scale
        body, _ = self._pass(settings, own, None, _sampling(steps, scale))
        return [f"Hires pass: {text}" for text in body] + [
            f"Hires pass: {problem}" for problem in own.problems if problem not in first.problems
        ]


def _sampling(steps: int | None, cfg_scale: float | None) -> Sampling | None:
    return Sampling(int(steps), float(cfg_scale)) if steps and cfg_scale is not None else None


def _fine_tune(base: str) -> Network:
    from lib_pg.deltas.base import ActiveNetwork
    from lib_pg.networks import Network

    name = "the checkpoint"
    return Network(name, {"unet": ActiveNetwork(name, {})}, base=base)
