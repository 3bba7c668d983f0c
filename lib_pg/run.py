"""One guided run: decides before every call of the U-Net what its weak rows are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from torch import Tensor

from lib_pg.accelerators import Sampling
from lib_pg.guidance import Conditioning, holds_a_step, is_inside, weak_conditioning, weak_ratio_at
from lib_pg.host import Host
from lib_pg.networks import describe, plan
from lib_pg.settings import Settings
from lib_pg.weak_branch import KeptWeights, WeakBranch

Prompt = TypeVar("Prompt")


@dataclass(frozen=True)
class Call(Generic[Prompt]):
    """What one evaluation of the host's model is to be.

    Attributes:
        weak_rows: rows that form the weak branch; empty where the host's own branch stays as it is.
        conditioning: what these rows are conditioned on.
        null_prompt: the encoded null prompt, where that is the conditioning.
        skip_weak_rows: leave these rows out of the call and give them the prediction of the prompt's rows,
            so that the host's combination returns just that.
    """

    weak_rows: tuple[int, ...] = ()
    conditioning: Conditioning = "negative"
    null_prompt: Prompt | None = None
    skip_weak_rows: bool = False


class GuidedRun(Generic[Prompt]):
    """A context manager around one run of a host.

    Args:
        host: its networks are read once, at the start of the run.
        settings: what the user chose; CFG mode, and nothing to weaken, leave the host alone.
        on_fault: gets an error of a layer's hook, after which no row is weak; without it, the U-Net raises.
        kept: weak weights of a full fine-tune that outlive the run, as for `WeakBranch`.
        sampling, absent, known: how the run samples and what is known of it, as for `plan`.
        fast: whether memory is spent on steps that take less time to start: where omega is constant, linear
            layers keep W_w and W_ft as one, twice their size.

    Attributes:
        ran: whether any row was weak so far. Guidance that did not run is never claimed.
    """

    def __init__(
        self,
        host: Host[Prompt],
        settings: Settings,
        on_fault: Callable[[Exception], None] | None = None,
        kept: KeptWeights | None = None,
        sampling: Sampling | None = None,
        absent: Mapping[str, str] | None = None,
        known: Sequence[str] = (),
        fast: bool = False,
    ) -> None:
        self.ran = False
        self._host = host
        self._settings = settings
        self._networks = networks = tuple(host.networks())
        self._plan = plan(settings, networks, sampling, absent, known)
        self._active = settings.enabled and settings.mode != "CFG" and self._plan.weakens
        in_unet = [network.parts["unet"] for network in networks if "unet" in network.parts]
        self._in_unet = [index for index, network in enumerate(networks) if "unet" in network.parts]
        is_fixed = host.strengths() is None
        self._fast = fast
        self._branch = WeakBranch(
            in_unet,
            on_fault,
            host.pristine,
            kept=kept,
            model=host.unet(),
            strengths=None if is_fixed else self._strengths,
            settle=None if is_fixed else host.settle,
            joins=host.is_product if fast and settings.schedule == "Constant" else None,
        )
        self._in_text = [index for index, network in enumerate(networks) if network.parts.keys() - {"unet"}]
        self._null_prompts: dict[tuple[float, ...], Prompt] = {}
        self._call: Call[Prompt] = Call()
        self._rows_done = 0

    def __enter__(self) -> GuidedRun[Prompt]:
        if self._active:
            self._branch.attach()
        if self._settings.enabled and self._settings.mode != "CFG":
            for note in self._plan.notes:
                self._host.warn(note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._branch.detach()
        self.pass_over()
        for note in self._notes():
            self._host.warn(note)

    def prepare(self) -> None:
        """Encode the first step's null prompt now: some hosts would move the U-Net away for it in mid-run."""
        settings = self._settings
        if self._active and weak_conditioning(settings.mode, settings.weak_prompt) == "null":
            self._null_prompt(self._plan.ratios(settings.weak_ratio))

    def describe(self) -> str:
        """Say what becomes of each network at the first step, and how the layers of the U-Net do it."""
        ratios = self._plan.ratios(self._settings.weak_ratio)
        said = f"{self._settings.mode}: {describe(self._networks, ratios) or 'no network'}"
        how = [f"U-Net: {layers}"] if (layers := self._branch.describe()) else []
        return ". ".join([said, *self._plan.remarks, *how, *self.why_slow()])

    def why_slow(self) -> Iterator[str]:
        """Say why steps that were to be fast are not."""
        if not (self._fast and self._active):
            return
        if self._settings.schedule != "Constant":
            yield "No fast steps: the weak ratio changes from step to step"
        elif not self._branch.joins:
            yield "No fast steps: no layer is known to be a product"

    @property
    def follows_steps(self) -> bool:
        """Whether the sampling step makes any difference; where not, a host need not find it out."""
        settings = self._settings
        return settings.schedule != "Constant" or settings.start > 0.0 or settings.end < 1.0

    def next_call(self, step: float, steps: int, total: int) -> Call[Prompt]:
        """Decide what the host's next evaluation of its model is; `enter_unet` then says which rows come.

        Args:
            step: sampling step, 0 for the first; the same for all evaluations at one noise level.
            steps: number of sampling steps.
            total: rows of the whole batch, in however many calls of the U-Net.
        """
        self._call = self._decide(step, steps, total)
        self._rows_done = 0
        return self._call

    @property
    def skips_weak_rows(self) -> bool:
        """Whether the current evaluation leaves its weak rows out."""
        return self._call.skip_weak_rows

    @property
    def guides(self) -> bool:
        """Whether the current evaluation is to have weak rows."""
        return bool(self._call.weak_rows) and not self._call.skip_weak_rows

    def pass_over(self) -> None:
        """Leave the current evaluation to the host: it cannot be guided."""
        self._call = Call()

    def enter_unet(
        self, rows: int, uncond: Sequence[int] | None = None, text: Tensor | None = None
    ) -> tuple[int, ...]:
        """Set the weak branch for a call with the next `rows` rows; return the weak ones among them.

        Args:
            rows: rows of this call.
            uncond: those of the host's unconditional branch, where the host says so; without, the rows of
                all calls are counted.
            text: what these rows read, (rows, tokens, width), where the host says it.
        """
        start, self._rows_done = self._rows_done, self._rows_done + rows
        if uncond is None:
            weak = tuple(row - start for row in self._call.weak_rows if start <= row < start + rows)
        else:
            weak = tuple(uncond) if self._call.weak_rows else ()
        if self._call.skip_weak_rows:
            self._branch.set_rows((), rows)
        else:
            self._branch.set_rows(weak, rows, text)
            self.ran = self.ran or bool(weak)
        return weak

    def leave_unet(self) -> None:
        """Let no row be weak until the next `enter_unet`, whoever calls the U-Net in between."""
        self._branch.set_rows((), 1)

    def _strengths(self) -> list[float]:
        now = self._host.strengths()
        assert now is not None
        return [now[index] for index in self._in_unet]

    def _notes(self) -> Iterator[str]:
        """Say at the end what the weak branch could not do."""
        if left := self._branch.left:
            model = self._host.unet()
            names = {module: name for name, module in model.named_modules()} if model else {}
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            yield (
                f"another extension calls {names.get(left[0], 'a layer')}{more} with rows of its own; which "
                "they are cannot be told, so these layers kept their full strength in the weak branch"
            )
        if self._branch.is_short_of_memory:
            yield "there was no memory for fast steps, so they took the time that they take without"
        if self._branch.followed_to_nothing:
            yield (
                "another extension set the networks' strength to 0 in the weak branch's calls, so there was "
                "nothing left to weaken and the weak ratio changed nothing"
            )

    def _decide(self, step: float, steps: int, total: int) -> Call[Prompt]:
        settings = self._settings
        if not self._active:
            return Call()
        rows = tuple(self._host.weak_rows(total))
        if not rows:
            self._host.warn("the host runs no unconditional branch (CFG scale 1?), so nothing is guided")
            return Call()
        if not is_inside(step, steps, settings.start, settings.end):
            if not holds_a_step(steps, settings.start, settings.end):
                self._host.warn(_no_step(settings, steps))
            return Call(rows, skip_weak_rows=True) if settings.outside == "None" else Call()
        omega = weak_ratio_at(step, steps, settings.schedule, settings.weak_ratio, settings.weak_ratio_end)
        ratios = self._plan.ratios(omega)
        self._branch.set_ratios([ratios[index] for index in self._in_unet])
        conditioning = weak_conditioning(settings.mode, settings.weak_prompt)
        null_prompt = self._null_prompt(ratios) if conditioning == "null" else None
        return Call(rows, conditioning, null_prompt)

    def _null_prompt(self, ratios: tuple[float, ...]) -> Prompt:
        """Encode the null prompt anew only where omega changes for a network that adapts a text encoder."""
        key = tuple(ratios[index] for index in self._in_text)
        if key not in self._null_prompts:
            self._null_prompts[key] = self._host.null_prompt(ratios)
        return self._null_prompts[key]


def _no_step(settings: Settings, steps: int) -> str:
    return (
        f"none of the {steps} steps lies between start {settings.start:g} and end {settings.end:g}, "
        "so nothing is guided; lower start or raise end"
    )
