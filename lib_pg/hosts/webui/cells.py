"""Several pictures of one request, each from a copy of the host's processing object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from lib_pg import TITLE


@dataclass(frozen=True)
class Made:
    """What the host made of one cell.

    Attributes:
        p: the copy of the processing object that made it.
        processed: the host's result.
        pictures: those that were sampled, in the host's order; masks and detected maps are left out.
        infotexts: one for each of them.
    """

    p: Any
    processed: Any
    pictures: list[Any]
    infotexts: list[str]


class CellFault(RuntimeError):
    """The host failed in a cell, which is named, after others were made."""


def fix_seed(p: Any) -> None:
    """Choose the random seed now, if it is to be random, so that all cells have the same."""
    from modules import processing

    processing.fix_seed(p)


def own_args(p: Any) -> Sequence[Any]:
    """Return what the always-visible script of ours is given in this request."""
    for script in p.scripts.alwayson_scripts:
        if script.title() == TITLE:
            given: Sequence[Any] = p.script_args[script.args_from : script.args_to]
            return given
    return []


def option(p: Any, name: str) -> Any:
    """Return an option of the host for this request.

    A request may override it, and the host then has that value only while it makes a picture.
    """
    from modules import shared

    overridden = p.override_settings or {}
    return overridden[name] if name in overridden else getattr(shared.opts, name)


def make_cells(p: Any, cells: Sequence[Callable[[Any], None]]) -> Iterator[Made | None]:
    """Make a picture for each cell, and yield what became of it: None where it was skipped.

    Ends where the user interrupts; a picture that was not sampled to its end is not among those made.

    Args:
        p: the host's processing object; it is copied for every cell and does not change.
        cells: each sets up the copy that it is given.

    Raises:
        CellFault: the host failed, and not at the first cell, where its own error is raised.
    """
    from modules import shared

    state = shared.state
    _announce(p, len(cells))
    for index, set_up in enumerate(cells):
        if _is_stopped(state):
            return
        state.job = f"{index + 1} out of {len(cells)}"
        own = _copy(p)
        set_up(own)
        try:
            made = _make(own)
        except Exception as error:
            if index == 0:
                raise
            raise CellFault(f"the host failed at cell {index + 1} of {len(cells)}: {error!r}") from error
        if state.interrupted:
            return
        yield None if state.skipped or not made.pictures else made


def _announce(p: Any, cells: int) -> None:
    """Tell the host's progress bars how much there is to do."""
    from modules import shared

    shared.state.job_count = cells * p.n_iter
    steps = p.steps
    if getattr(p, "enable_hr", False):
        steps += p.hr_second_pass_steps or p.steps
    shared.total_tqdm.updateTotal(cells * p.n_iter * steps)


def _is_stopped(state: Any) -> bool:
    return bool(state.interrupted or getattr(state, "stopping_generation", False))


def _copy(p: Any) -> Any:
    """Return a copy that shares nothing which a generation changes, but for the comments to the user."""
    own = copy(p)
    own.styles = list(p.styles or [])
    own.override_settings = dict(p.override_settings or {})
    own.extra_generation_params = dict(p.extra_generation_params)
    own.do_not_save_grid = True  # the pictures of a batch go into the comparison's own
    return own


def _make(p: Any) -> Made:
    from modules import processing

    processed = processing.process_images(p)
    first = processed.index_of_first_image
    infotexts = list(processed.infotexts[first:])
    step = 1 + _masks_with_each(p)
    pictures = processed.images[first : first + step * len(infotexts) : step]
    return Made(p, processed, list(pictures), infotexts[: len(pictures)])


def _masks_with_each(inpainting: Any) -> int:
    """Return how many masks the host puts behind every picture that it inpaints."""
    if getattr(inpainting, "mask_for_overlay", None) is None:
        return 0
    return bool(option(inpainting, "return_mask")) + bool(option(inpainting, "return_mask_composite"))
