"""The host's own components of one tab that the line depends on, and what their values mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib_pg.page.axes import settings_of_axes
from lib_pg.page.host_prompt import is_filled_in_later, negative_as_read, prompt_as_read
from lib_pg.page.situation import SecondPass, Situation

_PLOT = "X/Y/Z plot"
# Axes of the host that change what the line would read from the page.
_SCALE_AXIS = "CFG Scale"
_STEPS_AXIS = "Steps"
_PROMPT_AXES = ("Prompt S/R", "Prompt order", "Styles")


class HostPage:
    """Collects the components by their elem_id; those that a host has not are left out.

    Args:
        tab: `txt2img` or `img2img`.
    """

    def __init__(self, tab: str) -> None:
        self._by_elem_id: dict[str, str] = {
            f"{tab}_prompt": "prompt",
            f"{tab}_neg_prompt": "negative",
            f"{tab}_styles": "styles",
            f"{tab}_cfg_scale": "cfg_scale",
            f"{tab}_steps": "steps",
            f"{tab}_enable-checkbox": "refiner",
            f"{tab}_checkpoint": "refiner_checkpoint",
            f"{tab}_switch_at": "switch_at",
            "script_list": "script",
            **{f"script_{tab}_xyz_plot_{axis}_type": f"{axis}_axis" for axis in "xyz"},
        }
        self._runs_all_steps = tab == "txt2img"  # those of img2img depend on its denoising strength
        if tab == "txt2img":
            self._by_elem_id |= {
                "txt2img_hr-checkbox": "hires",
                "hires_prompt": "hires_prompt",
                "txt2img_hr_cfg": "hires_cfg_scale",
                "txt2img_hires_steps": "hires_steps",
            }
        self._last = f"{tab}_gallery"  # the hosts build it behind all others
        self._found: dict[str, Any] = {}
        self._is_at_end = False

    def note(self, component: Any, elem_id: str | None) -> None:
        """Take note of a component that the host has made."""
        if elem_id is not None and elem_id in self._by_elem_id:
            self._found[self._by_elem_id[elem_id]] = component
        self._is_at_end = self._is_at_end or elem_id == self._last

    @property
    def is_whole(self) -> bool:
        """Whether all are there that the host has."""
        return self._is_at_end and "prompt" in self._found

    @property
    def components(self) -> list[Any]:
        """Return those that were found, in a fixed order."""
        return list(self._found.values())

    def situation(self, values: Sequence[Any]) -> Situation:
        """Return what the values of `components` mean."""
        given = dict(zip(self._found, values, strict=True))
        styles = given.get("styles") or []
        prompt = prompt_as_read(given["prompt"] or "", styles)
        axes = self._axes(given)
        second = self._second_pass(given, prompt, styles)
        texts = (prompt, second.prompt if second else "")
        return Situation(
            prompt=prompt,
            negative=negative_as_read(given.get("negative") or "", styles),
            cfg_scale=None if _SCALE_AXIS in axes else given.get("cfg_scale"),
            steps=None if _STEPS_AXIS in axes else given.get("steps"),
            runs_all_steps=self._runs_all_steps,
            second_pass=second,
            refiner=self._refines(given),
            axes=tuple(settings_of_axes(axes)),
            may_change=any(map(is_filled_in_later, texts)) or any(axis in axes for axis in _PROMPT_AXES),
        )

    def _second_pass(self, given: Mapping[str, Any], prompt: str, styles: Sequence[str]) -> SecondPass | None:
        if not given.get("hires"):
            return None
        own = given.get("hires_prompt") or ""
        return SecondPass(
            prompt_as_read(own, styles) if own else prompt,
            given.get("hires_cfg_scale"),
            given.get("hires_steps") or None,  # 0 means as many as in the first
        )

    def _refines(self, given: Mapping[str, Any]) -> bool:
        chosen = given.get("refiner_checkpoint")
        return bool(given.get("refiner") and chosen and chosen != "None" and given.get("switch_at", 0) < 1)

    def _axes(self, given: Mapping[str, Any]) -> list[str]:
        """Return the labels of the axes in use; the hosts' lists give indices."""
        if self._label("script", given) != _PLOT:
            return []
        labels = [self._label(f"{axis}_axis", given) for axis in "xyz"]
        return [label for label in labels if label]

    def _label(self, name: str, given: Mapping[str, Any]) -> str:
        value = given.get(name)
        choices = list(getattr(self._found.get(name), "choices", None) or [])
        if not isinstance(value, int) or not 0 <= value < len(choices):
            return value if isinstance(value, str) else ""
        choice = choices[value]
        return str(choice[0] if isinstance(choice, (tuple, list)) else choice)
