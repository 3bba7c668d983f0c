"""What WebUIs do around their sampling, as far as a script sees it: callbacks in order, and who catches what.

An error in a script's method or callback is printed and the host goes on; one in the model ends the request.
"""

from __future__ import annotations

import copy
import hashlib
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tests.faults.extension import Extension
from tests.faults.scenario import Scenario


@dataclass
class Batch:
    """Pictures of one batch: the bytes of every prediction, and the parameters that are written with them."""

    predictions: list[str]
    infotext: dict[str, Any]
    is_whole: bool


@dataclass
class Result:
    """What a request has given, and what its `p` has become."""

    p: Any
    batches: list[Batch] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def bytes(self) -> list[list[str]]:
        return [batch.predictions for batch in self.batches]


class Neighbour:
    """Another extension: its callbacks do nothing, but one of them may raise or run something."""

    def __init__(self) -> None:
        self.does: dict[str, Callable[[Any], None]] = {}

    def run(self, method: str, p: Any) -> None:
        if method in self.does:
            self.does[method](p)


class Webui(ABC):
    """A WebUI with our extension between two others.

    Attributes:
        checkpoint, vae: names of those that are chosen.
        on: whether our extension is there at all.
        has_inner: whether a neighbour runs a generation of its own on every finished picture.
        at_step: is called before every evaluation of the model with its number in the request.
        evaluations: their number so far in the request.
        reported: errors of scripts that the host has printed.
    """

    interrupted: type[BaseException]
    shared: Any

    def __init__(self, scenario: Scenario, extension: Extension) -> None:
        self.scenario = scenario
        self.extension = extension
        self.first, self.last = Neighbour(), Neighbour()
        self.has_inner = False
        self.on = True
        self.checkpoint, self.vae = "dream", "plain"
        self.vaes = {"plain": 1.0, "sharp": 1.5}
        self.state = types.SimpleNamespace(interrupted=False, skipped=False)
        self.at_step: Callable[[int], None] = lambda number: None
        self.telling: Callable[[str], None] = lambda what: None
        self.evaluations = 0
        self.is_sampling = False
        self.broke_off_sampling = False
        self.reported: list[BaseException] = []

    @abstractmethod
    def models(self) -> dict[str, nn.Module]:
        """Return everything with weights that the host has now."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all other tensors of the host: networks', and what it has kept of the models."""

    @abstractmethod
    def model(self) -> Any:
        """Return what `shared.sd_model` is."""

    @abstractmethod
    def new_p(self) -> Any: ...

    @abstractmethod
    def new_sampler(self) -> Any: ...

    @abstractmethod
    def load_checkpoint(self, name: str) -> None: ...

    @abstractmethod
    def activate(self, networks: Sequence[tuple[str, str, float]]) -> None:
        """Have networks in the model, as the host does before a pass."""

    @abstractmethod
    def change_network(self, name: str, how: str) -> Callable[[], None]:
        """Change, replace or delete a network's file; return what makes it as it was."""

    @abstractmethod
    def loop(self, p: Any, step: Callable[[Any, Any], None]) -> list[Tensor]:
        """Run a pass of sampling; return its predictions."""

    @abstractmethod
    def refresh(self) -> None:
        """Do what the host does to its model's objects before scripts are told of a pass."""

    def tell_again(self, p: Any) -> None:
        """Tell scripts a second time of a hires pass, as some hosts do."""
        return None

    def request(self, settings: Any, prompts: Sequence[str] | None = None, **values: Any) -> Any:
        """Return a `p` that waits to be generated.

        Args:
            settings: our arguments; None where they are left out.
        """
        scenario, p = self.scenario, self.new_p()
        p.steps, p.width, p.height = scenario.steps, 64, 64
        p.enable_hr, p.n_iter, p.batch_size = scenario.hires, scenario.batches, scenario.pictures
        p.hr_second_pass_steps = max(1, scenario.steps - 1) if scenario.hires else 0
        p.script_args = [{"enabled": False} if settings is None else settings]
        p.networks, p.refiner_at, p.override_settings = scenario.networks, scenario.refiner, {}
        p.prompts = list(prompts or ("a dog", "a cat")[: scenario.pictures])
        for name, value in values.items():
            setattr(p, name, value)
        own_comment = p.comment

        def comment(text: str) -> None:
            self.telling("comment")
            own_comment(text)

        p.comment = comment
        return p

    def generate(self, p: Any) -> Result:
        """Process a request as the API does; an error that ends it is in the result."""
        if not getattr(p, "is_inner", False):
            self.evaluations = 0
        self.state.interrupted = self.state.skipped = False
        result = Result(p)
        self.broke_off_sampling = False
        try:
            with torch.no_grad():
                self._process(p, result)
        except BaseException as error:
            result.error = error
            self.broke_off_sampling = self.is_sampling
        finally:
            self.is_sampling = False
            result.told = list(p.comments)
        return result

    def _process(self, p: Any, result: Result) -> None:
        self._run("before_process", p)
        kept = {name: getattr(self.shared.opts, name) for name in p.override_settings}
        try:
            vars(self.shared.opts).update(p.override_settings)
            self.load_checkpoint(self.checkpoint)
            self._run("process", p)
            for _ in range(p.n_iter):
                self.state.skipped = False
                if self.state.interrupted:
                    break
                result.batches.append(self._batch(p))
            processed = types.SimpleNamespace(extra_generation_params=p.extra_generation_params, comments="")
            self._run("postprocess", p, processed)
        finally:
            vars(self.shared.opts).update(kept)

    def _batch(self, p: Any) -> Batch:
        self.load_checkpoint(self.checkpoint)  # a refiner may be there
        self._run("before_process_batch", p)
        self.activate(p.networks)
        named = [
            types.SimpleNamespace(positional=[name, str(strength)], named=tags)
            for (name, _, strength), tags in zip(p.networks, self.scenario.tags, strict=False)
        ]
        self._run("after_extra_networks_activate", p, extra_network_data={"lora": named})
        self.refresh()
        self._run("process_batch", p)
        p.sampler = self.new_sampler()
        self._run("process_before_every_sampling", p)
        latents = self._pass(p)
        if p.enable_hr and not self.state.interrupted:
            p.is_hr_pass, p.hr_extra_network_data = True, {"lora": named}
            p.sampler = self.new_sampler()
            self.activate(p.networks)
            self.refresh()
            self._run("process_before_every_sampling", p)
            self.tell_again(p)
            latents += self._pass(p)
            p.sampler, p.is_hr_pass = None, False
        is_whole = not (self.state.interrupted or self.state.skipped)
        self._run("postprocess_batch", p)
        self._run("postprocess_image", p)
        if self.has_inner:
            self._report(lambda: run_inner(self, p))
        factor = self.vaes[self.vae]
        return Batch([digest(each * factor) for each in latents], dict(p.extra_generation_params), is_whole)

    def _pass(self, p: Any) -> list[Tensor]:
        self.is_sampling = True
        found = self.loop(p, lambda params, model: self._step(p, params))
        self.is_sampling = False
        return found

    def _step(self, p: Any, params: Any) -> None:
        """What the host's denoiser does before it calls its model."""
        self.at_step(self.evaluations)
        self.evaluations += 1
        if self.state.interrupted or self.state.skipped:
            raise self.interrupted
        params.denoiser = getattr(params, "denoiser", None) or types.SimpleNamespace(p=p)
        self._report(lambda: self.first.run("cfg_denoiser", p))
        if self.on:
            self._report(lambda: self.extension.on_cfg_denoiser(params))
        self._report(lambda: self.last.run("cfg_denoiser", p))

    def _run(self, method: str, p: Any, *given: Any, **named: Any) -> None:
        self._report(lambda: self.first.run(method, p))
        ours = getattr(self.extension.script, method, None)
        if ours is not None and self.on:
            args = [*given, *p.script_args] if method == "postprocess" else p.script_args
            self._report(lambda: ours(p, *args, **named))
        self._report(lambda: self.last.run(method, p))

    def _report(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            self.reported.append(error)


def run_inner(webui: Webui, p: Any) -> None:
    """Run a generation within a generation with the very scripts and arguments, as detailers do."""
    if getattr(p, "is_inner", False):
        return
    inner = webui.request(copy.deepcopy(p.script_args[0]), is_inner=True, n_iter=1, enable_hr=False)
    state, sampling = copy.copy(webui.state), webui.is_sampling
    found = webui.generate(inner)
    vars(webui.state).update(vars(state))
    webui.is_sampling = sampling
    if found.error is not None:
        raise found.error


def digest(tensor: Tensor) -> str:
    """Return a hash of a tensor's values, to the bit."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(plain.view(torch.uint8).numpy().tobytes(), digest_size=12).hexdigest()
