"""What a WebUI's sampler does, seen on the one object that the host makes for a pass and throws away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib_pg.hosts.webui.console import say


class SamplerWatch:
    """Counts the steps a sampler has finished, and tells when its loop ends, however that ends.

    The host's own number of the step is still 0 in the second one, and calls of the model are no steps:
    second-order samplers make two in one. After an error the host calls no script method at all.

    Args:
        sampler: the host's, before it starts.
        ended: called when it has finished, was interrupted or has failed, and again where it fails itself.
    """

    def __init__(self, sampler: Any, ended: Callable[[], None]) -> None:
        self.steps_done = 0
        finished, launch = sampler.callback_state, sampler.launch_sampling

        def finish_step(state: Any) -> None:
            self.steps_done += 1
            finished(state)

        def launch_to_end(*args: Any, **kwargs: Any) -> Any:
            try:
                return launch(*args, **kwargs)
            finally:
                try:
                    ended()
                except BaseException as error:
                    ended()  # what the first try has left
                    if not isinstance(error, Exception):  # an interrupt
                        raise
                    say(f"the end of a pass had a fault of its own, the picture is what it was. {error!r}")

        sampler.callback_state = finish_step
        sampler.launch_sampling = launch_to_end
