"""How a scenario's fault gets into a contract host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.faults.calls import Calls
from tests.faults.scenario import Fault
from tests.faults.webui import Webui

_ERRORS: dict[str, type[BaseException]] = {
    "RuntimeError": RuntimeError,
    "OutOfMemoryError": torch.OutOfMemoryError,
    "KeyboardInterrupt": KeyboardInterrupt,
}
_MESSAGE = "asked for by the fault harness"


class Injection:
    """One fault in one request.

    Args:
        seen: our functions' calls in the same request without a fault.
        evaluations: the model's evaluations in it.

    Attributes:
        error: what is raised; None where the fault is none that raises.
        calls: of our functions while the request ran.
        undo: makes the host what it was, where the fault has changed it for good.
        has_happened: whether it came so far.
    """

    def __init__(self, webui: Webui, fault: Fault, seen: Calls, evaluations: int, folder: Path) -> None:
        self.error = _ERRORS[fault.error](_MESSAGE) if fault.error else None
        self.undo: list[Callable[[], Any]] = []
        self.has_happened = fault.what in ("toggle", "none")
        self.name = str(fault)
        self.calls = Calls()
        self._webui, self._fault, self._folder = webui, fault, folder
        self._evaluations = evaluations
        self._number = int(fault.at * max(evaluations, 1))
        if fault.what == "ours" and seen.counts:
            names = sorted(seen.counts)
            name = names[int(fault.where * len(names))]
            call = 1 + int(fault.at * seen.counts[name])
            self.calls = Calls(name, call, self.error)
            self.name = f"{fault.error} in {name}, call {call}"

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the fault come within the block, which is one request."""
        webui, fault = self._webui, self._fault
        if fault.what in ("network file", "base", "checkpoint", "vae", "reload") and fault.before:
            self._act()
        elif fault.what == "neighbour":
            neighbour = webui.first if fault.before else webui.last
            neighbour.does[fault.how] = self._raise_later(
                int(fault.at * (self._evaluations if fault.how == "cfg_denoiser" else 1.3))
            )
        elif fault.what == "host":
            self._break_host()
        elif fault.what not in ("ours", "none", "toggle"):
            webui.at_step = lambda number: self._act() if number == self._number else None
        try:
            with self.calls.watched():
                yield
        finally:
            self.has_happened = self.has_happened or bool(self.calls.raised_in)
            webui.at_step = lambda number: None
            webui.telling = lambda what: None
            webui.first.does.pop(fault.how, None)
            webui.last.does.pop(fault.how, None)
            while self.undo:
                self.undo.pop()()

    def _act(self) -> None:
        self.has_happened = True
        webui, fault = self._webui, self._fault
        if fault.what == "interrupt":
            webui.state.interrupted = True
        elif fault.what == "skip":
            webui.state.skipped = True
        elif fault.what == "layer":
            self._break_layer()
        elif fault.what == "checkpoint":
            self._choose("checkpoint", "second")
        elif fault.what == "vae":
            self._choose("vae", "sharp")
        elif fault.what == "reload":
            webui.extension.load()
            webui.extension.use(webui.shared)
        elif fault.what == "network file":
            for name, *_ in webui.scenario.networks[:1]:
                self.undo.append(webui.change_network(name, fault.how))
        elif fault.what == "base":
            self._change_base(self._folder / "checkpoints" / "base.safetensors")

    def _choose(self, name: str, value: str) -> None:
        before = getattr(self._webui, name)
        setattr(self._webui, name, value)
        self.undo.append(lambda: setattr(self._webui, name, before))

    def _change_base(self, path: Path) -> None:
        content, other = path.read_bytes(), path.with_name("other.safetensors").read_bytes()
        self.undo.append(lambda: _replace(path, content))
        if self._fault.how == "deleted":
            path.unlink()
        elif self._fault.how == "broken":
            _replace(path, content[: len(content) // 2])
        else:
            _replace(path, other)

    def _break_layer(self) -> None:
        """Have the next call of a layer fail; the first of them is the U-Net itself."""
        modules = (module for model in self._webui.models().values() for module in model.modules())
        layers = [module for module in modules if type(module).forward is not nn.Module.forward]
        layer = layers[int(self._fault.where * len(layers))]

        def fail(*given: Any) -> None:
            handle.remove()
            self._raise()

        handle = layer.register_forward_pre_hook(fail)
        self.undo.append(handle.remove)

    def _break_host(self) -> None:
        how, later = self._fault.how, self._raise_later(int(self._fault.at * 2))
        if how == "comment":
            self._webui.telling = later
        elif how == "page":
            self._set(sys.modules["gradio"], "Warning", lambda message: later(None))
        elif how == "print":
            self._set(sys, "stdout", _Closed(sys.stdout, later))
        elif how == "encode":
            model = self._webui.model()
            encode = model.get_learned_conditioning
            self._set(
                model,
                "get_learned_conditioning",
                lambda prompts: later(None) or encode(prompts) if not any(prompts) else encode(prompts),
            )
        elif how == "cached_params":
            own = self._webui.new_p().__class__
            ask = own.cached_params
            self._set(own, "cached_params", lambda p, *given: later(None) or ask(p, *given))
        else:
            lora: Any = sys.modules["networks"]
            for name in ("network_apply_weights", "load_lora_state_dict"):
                if read := getattr(lora, name, None):
                    self._set(lora, name, _then(later, read))

    def _set(self, owner: Any, name: str, value: Any) -> None:
        had, before = name in vars(owner), getattr(owner, name)
        setattr(owner, name, value)
        self.undo.append(lambda: setattr(owner, name, before) if had else delattr(owner, name))

    def _raise_later(self, calls: int) -> Callable[[Any], None]:
        """Return what raises the error when it is called once more than `calls` times, and never again."""
        count = iter(range(10**6))

        def call(given: Any) -> None:
            if next(count) == calls:
                self._raise()

        return call

    def _raise(self) -> None:
        self.has_happened = True
        assert self.error is not None
        raise self.error


class _Closed:
    """A console that fails."""

    def __init__(self, console: Any, write: Callable[[Any], None]) -> None:
        self._console, self._fail = console, write

    def write(self, text: str) -> int:
        self._fail(text)
        return int(self._console.write(text))

    def flush(self) -> None:
        self._console.flush()


def _then(first: Callable[[Any], None], call: Callable[..., Any]) -> Callable[..., Any]:
    def both(*given: Any) -> Any:
        first(None)
        return call(*given)

    for name in ("cache_info",):
        if hasattr(call, name):
            setattr(both, name, getattr(call, name))
    return both


def _replace(path: Path, content: bytes) -> None:
    """Write a file in its place, as a download does: whoever has the old one open keeps that."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)
