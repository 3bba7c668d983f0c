"""Keeps the line of the accordion true while the user changes the prompt and the controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib_pg.hosts.webui.checkpoints import find_checkpoint
from lib_pg.hosts.webui.lora_extension import is_forge
from lib_pg.hosts.webui.network_files import NetworkFiles, kinds_not_loaded, similar_network
from lib_pg.page.components import Components, debounced, on_page_load, quiet
from lib_pg.page.forecast import forecast_html
from lib_pg.page.host_page import HostPage
from lib_pg.page.situation import HostFiles


class LiveLine:
    """Collects the components of one tab as the host makes them, and connects them when all are there.

    The host decides where prompt, CFG scale and scripts stand on its page, so they may come in any order.

    Args:
        tab: `txt2img` or `img2img`.
        files: what there is on the disk, asked for anew each time; a WebUI's own where it is not given.
    """

    def __init__(self, tab: str, files: Callable[[], HostFiles] | None = None) -> None:
        self._tab = tab
        self._page = HostPage(tab)
        self._components: Components | None = None
        self._files = NetworkFiles()
        self._look = files or self._host_files

    def after_component(self, component: Any, elem_id: str | None) -> None:
        """Take note of a component: call it from `Script.after_component` for every one."""
        self._page.note(component, elem_id)
        self._connect()

    def built(self, components: Components) -> None:
        """Take note of the accordion: call it at the end of `Script.ui`."""
        self._components = components
        self._connect()

    def _connect(self) -> None:
        components, page = self._components, self._page
        if components is None or not page.is_whole:
            return
        self._components, self._page = None, HostPage(self._tab)  # the host builds ui() again for its API
        inputs = [*page.components, *components.controls]

        def line(*values: Any) -> str:
            count = len(page.components)
            return forecast_html(values[count:], page.situation(values[:count]), self._look())

        on_page_load(line, inputs, [components.line])
        arguments = quiet(debounced(f"line_{self._tab}", len(inputs)))
        for source in inputs:
            source.change(line, inputs=inputs, outputs=[components.line], **arguments)

    def _host_files(self) -> HostFiles:
        return HostFiles(
            find=self._files.find,
            similar=similar_network,
            family=self._files.family_of_checkpoint,
            left_out=kinds_not_loaded(),
            all_or_none=is_forge(),
            has_checkpoint=lambda title: find_checkpoint(title) is not None,
        )
