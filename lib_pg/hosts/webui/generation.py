"""Personalization guidance in a WebUI, for one generation.

What belongs to a generation hangs on the host's own processing object `p` and ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lib_pg.formats.errors import NetworkError
from lib_pg.hosts.webui.asked import Asked
from lib_pg.hosts.webui.console import say
from lib_pg.hosts.webui.notices import Notices
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.hosts.webui.sampler_watch import SamplerWatch
from lib_pg.hosts.webui.sampling_pass import WebuiPass
from lib_pg.infotext import WEAK_MEMORY, to_infotext
from lib_pg.prompt import KINDS, Own, read_own
from lib_pg.run import GuidedRun
from lib_pg.settings import CONTROLS, NO_CHECKPOINT, Settings, SettingsError
from lib_pg.weak_branch import detach_all

_LEFT_OUT = (
    "the host left the unconditional branch out of every step, so nothing was guided; "
    "lower its Negative Guidance minimum sigma or its Skip early CFG"
)
_LEFT_ALONE = (
    "no step was guided before the picture ended, but its steps ran without the unconditional branch, "
    "as outside = None wants it"
)


def clean(model: Any, passes: type[WebuiPass]) -> None:
    """Take away what a generation left on the model's U-Net that broke off without the host's saying so."""
    unet = passes.unet_of(model)
    if unet is not None:
        detach_all(unet)


class WebuiGuidance:
    """Guidance of one generation (a `p`), from its first sampling to its end.

    A fault of ours ends our part: the host goes on with plain CFG and the infotext does not claim more.

    Args:
        p: the host's processing object.
        settings: what the user chose.
        passes: the host's kind of pass.
        notices: tells the user.
        null_prompts: those encoded in earlier generations.
        infotext: whether the pictures' parameters may say what made them.
        details: whether the console is told what is weakened, too.
        rank: to which differences from a base checkpoint are cut; 0 keeps them exact.
        fast: as for `GuidedRun`.
    """

    def __init__(
        self,
        p: Any,
        settings: Settings,
        passes: type[WebuiPass],
        notices: Notices,
        null_prompts: NullPrompts,
        infotext: bool = True,
        details: bool = False,
        rank: int = 0,
        fast: bool = False,
    ) -> None:
        self._p = p
        self._settings = settings
        self._passes = passes
        self.warn = notices.warn
        self._notices = notices
        self._null_prompts = null_prompts
        self._checkpoint = ""
        self._infotext = to_infotext(settings) if infotext else {}
        self._details = details
        self._rank = rank
        self._fast = fast
        if infotext and rank and settings.enabled and settings.base_checkpoint != NO_CHECKPOINT:
            self._infotext[WEAK_MEMORY] = str(rank)
        self._own: dict[str, Own] = {}
        self._faults: dict[str, str] = {}
        self._pass: WebuiPass | None = None
        self._ran = self._touched = False

    @classmethod
    def start(
        cls,
        p: Any,
        read_settings: Callable[[], Settings],
        passes: type[WebuiPass],
        warn_on_page: Callable[[str], None],
        cell: str = "",
        **options: Any,
    ) -> WebuiGuidance | None:
        """Return the guidance of a generation; it is idle where the settings are wrong, and None where off.

        Args:
            read_settings: returns the settings; its SettingsError is told to the user.
            warn_on_page: shows a sentence on the page at once.
            cell: what the axes of a grid want for this generation.
            options: further arguments of the class.
        """
        for control in CONTROLS.values():  # a grid's cells share these: nothing of the last cell may stay
            p.extra_generation_params.pop(control.infotext_key, None)
        p.extra_generation_params.pop(WEAK_MEMORY, None)
        notices = Notices(p, warn_on_page, cell)
        try:
            settings = read_settings()
        except SettingsError as error:
            notices.warn(f"not used, its settings are wrong. {error}", whole=True)
            return cls(p, Settings(), passes, notices, **options)
        if not settings.enabled:
            return None
        return cls(p, settings, passes, notices, **options)

    def read_ratios(self, networks: Mapping[str, Sequence[Any]]) -> None:
        """Take the weak ratios (`pg=0.3`) and strengths (`weak=0.4`) that the prompt gives single networks.

        Args:
            networks: the host's extra networks of the coming pass, by kind.
        """
        self._own, self._faults = {}, {}
        for network in (network for kind in KINDS for network in networks.get(kind, ())):
            if not network.positional:
                continue
            name, *others = network.positional
            own, problem = read_own(name, network.named)
            _, fault = read_own(name, {}, [text for text in others if isinstance(text, str)])
            if fault:
                self._faults[name] = fault
            self._own[name] = own.after(self._own.get(name, Own()))
            if problem:
                self.warn(problem)

    def write_infotext(self) -> None:
        """Say in the coming pictures' parameters what makes them; `end_batch` takes back what did not."""
        self._ran = self._touched = False
        self._p.extra_generation_params.update(self._infotext)

    def begin_pass(self, model: Any) -> None:
        """Attach to the model for a pass of sampling; the second call for one pass changes nothing."""
        self.end_pass()
        if getattr(self._p, "is_hr_pass", False):  # the host has parsed its prompt without telling scripts
            self.read_ratios(getattr(self._p, "hr_extra_network_data", None) or {})
        settings = self._pass_settings()
        if settings is None:
            return
        if self._passes.scale_of(self._p) == 1.0:
            self.warn("at CFG scale 1 there is no guidance, so nothing happens; raise the CFG scale")
            return
        try:
            self._checkpoint = self._passes.checkpoint_of(model)
            watch = SamplerWatch(self._p.sampler, self.end_pass)
            run = self._open_pass(model, settings, watch, self.warn)
            if self._pass is not None and not self._pass.has_base:  # what was not used is not claimed
                for key in (CONTROLS["base_checkpoint"].infotext_key, WEAK_MEMORY):
                    self._p.extra_generation_params.pop(key, None)
            run.prepare()
        except Exception as error:
            self._give_up(error)

    def _open_pass(
        self,
        model: Any,
        settings: Settings,
        watch: SamplerWatch,
        warn: Callable[[str], None],
        asked: Asked | None = None,
    ) -> GuidedRun[Any]:
        self._pass = self._passes(
            self._p,
            model,
            settings,
            watch,
            asked or Asked(self._own, self._faults),
            warn,
            self._give_up,
            self._null_prompts,
            self._rank,
            self._fast,
        )
        self._pass.attach()
        if self._details and settings.mode != "CFG":
            say(self._pass.run.describe())
        return self._pass.run

    def before_step(self, params: Any, model: Any) -> None:
        """Turn the uncond rows of the coming step into the weak branch.

        Args:
            params: the host's CFGDenoiserParams; `text_uncond` is replaced.
            model: the host's model in use now; a refiner replaces it within a pass.
        """
        if self._pass is None:
            return
        try:
            if not self._pass.is_for(model):
                last = self._pass
                self.end_pass()
                if self._passes.checkpoint_of(model) == self._checkpoint:
                    self._open_pass(model, last.settings, last.watch, self.warn)
                else:
                    self._open_refiner(model, last.settings, last.watch)
            self._pass.before_step(params)
        except Exception as error:
            self._give_up(error)

    def _open_refiner(self, model: Any, settings: Settings, watch: SamplerWatch) -> None:
        """Go on with a refiner, which is no fine-tune of the base."""
        known = []
        if settings.base_checkpoint != NO_CHECKPOINT:
            known = ["a refiner is not weakened towards the base checkpoint, which is the first model's"]
        own = replace(settings, base_checkpoint=NO_CHECKPOINT)
        asked = Asked(self._own, self._faults, known, is_refiner=True)
        self._open_pass(model, own, watch, self._warn_of_refiner, asked)

    def _warn_of_refiner(self, message: str) -> None:
        self._notices.warn(message, of="refiner")

    def end_pass(self) -> None:
        """Detach everything; calling it again changes nothing."""
        ended = self._pass
        if ended is not None:
            self._ran = self._ran or ended.run.ran
            self._end(ended)
            self._pass = None  # only now: whoever calls this again makes up for an interrupt
            if ended.was_left_out:
                self.warn(_LEFT_OUT)

    def _end(self, ended: WebuiPass) -> None:
        """End a pass in the middle of the host's sampling, which must not fail for it."""
        self._touched = self._touched or ended.touched
        try:
            ended.end()
        except BaseException as error:
            with suppress(Exception):  # once more, for what the first try has left
                ended.end()
            if not isinstance(error, Exception):
                raise
            self.warn(f"the end of a pass had a fault of its own, the picture is what it was. {error!r}")

    def end_batch(self) -> None:
        """End the batch's last pass; keep its infotext only if guidance ran."""
        self.end_pass()
        if not self._ran:
            self._take_infotext_back()
            if self._touched and not self._notices.has_told:  # the user has interrupted
                self.warn(_LEFT_ALONE)

    def end(self, processed: Any) -> None:
        """End all there is left, and tell the API's caller what the user was told."""
        self.end_pass()
        self._notices.answer(processed)

    def _pass_settings(self) -> Settings | None:
        """Return the settings of the coming pass, or None where it is not to be guided."""
        settings = self._settings
        if not settings.enabled:
            return None
        if not getattr(self._p, "is_hr_pass", False) or settings.hires == "Same":
            return settings
        return replace(settings, weak_ratio=settings.hires_weak_ratio) if settings.hires == "Own" else None

    def _give_up(self, error: Exception) -> None:
        ended, self._pass = self._pass, None
        if ended is not None:
            self._end(ended)
        self._ran = False
        self._take_infotext_back()
        picture = "the picture is made with plain CFG"
        if self._touched:
            step = "" if ended is None else f" in step {ended.watch.steps_done + 1}"
            picture = f"the picture is guided until then{step}, and made with plain CFG from the next one on"
        is_file = isinstance(error, NetworkError)  # the base checkpoint's, read as its layers are called
        cause, said = ("a file", str(error)) if is_file else ("a fault of its own", repr(error))
        self.warn(f"stopped by {cause}: {picture}. {said}")

    def _take_infotext_back(self) -> None:
        for key in self._infotext:
            self._p.extra_generation_params.pop(key, None)
