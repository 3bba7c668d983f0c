"""Keeps the line of the accordion true while the user changes the prompt and the controls."""

from __future__ import annotations

from typing import Any

from lib_pg.hosts.webui.checkpoints import find_checkpoint
from lib_pg.page.components import Components, debounced, on_page_load, quiet
from lib_pg.page.forecast import forecast_html
from lib_pg.page.host_networks import network_metadata


class LiveLine:
    """Collects the components of one tab as the host makes them, and connects them when all are there.

    The host decides where prompt, CFG scale and scripts stand on its page, so they may come in any order.

    Args:
        tab: `txt2img` or `img2img`.
    """

    def __init__(self, tab: str) -> None:
        self._tab = tab
        self._prompt: Any = None
        self._cfg_scale: Any = None
        self._components: Components | None = None

    def after_component(self, component: Any, elem_id: str | None) -> None:
        """Take note of a component: call it from `Script.after_component` for every one."""
        if elem_id == f"{self._tab}_prompt":
            self._prompt = component
        elif elem_id == f"{self._tab}_cfg_scale":
            self._cfg_scale = component
        else:
            return
        self._connect()

    def built(self, components: Components) -> None:
        """Take note of the accordion: call it at the end of `Script.ui`."""
        self._components = components
        self._connect()

    def _connect(self) -> None:
        components = self._components
        if components is None or self._prompt is None or self._cfg_scale is None:
            return
        inputs = [self._prompt, self._cfg_scale, *components.controls]
        self._components = self._prompt = self._cfg_scale = None  # the host builds ui() again for its API
        on_page_load(_line, inputs, [components.line])
        arguments = quiet(debounced(f"line_{self._tab}", len(inputs)))
        for source in inputs:
            source.change(_line, inputs=inputs, outputs=[components.line], **arguments)


def _line(prompt: str, cfg_scale: float, *values: Any) -> str:
    return forecast_html(values, prompt, cfg_scale, network_metadata, _is_listed)


def _is_listed(checkpoint: str) -> bool:
    return find_checkpoint(checkpoint) is not None
