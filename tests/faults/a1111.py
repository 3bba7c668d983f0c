"""AUTOMATIC1111's stand-in as a WebUI."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.faults.extension import Extension, HostScript, added, host_modules
from tests.faults.files import bases, listed
from tests.faults.scenario import A1111_KINDS, Scenario
from tests.faults.webui import Webui
from tests.hosts.a1111 import stand_in
from tests.hosts.a1111.lora_extension import Network, make_parts


class Interrupted(BaseException):
    """What the host's denoiser raises when the user interrupts or skips."""


class Sampler(stand_in.Sampler):
    def launch_sampling(self, steps: int, func: Callable[[], Any]) -> Any:
        try:
            return super().launch_sampling(steps, func)
        except Interrupted:
            return None


class A1111(Webui):
    """AUTOMATIC1111: one model, into which every checkpoint is loaded; networks are merged at layers' calls.

    Args:
        folder: for its networks' files.
    """

    interrupted = Interrupted

    def __init__(
        self, scenario: Scenario, extension: Extension, model: stand_in.Model, folder: Path, shared: Any
    ) -> None:
        super().__init__(scenario, extension)
        self.shared = shared
        self._model, self._folder = model, folder
        self._layers = model.network_layer_mapping
        own = {key: value.detach().clone() for key, value in _state(model).items()}
        self._checkpoints = {
            "dream": own,
            **{name: _moved(own, seed) for seed, name in enumerate(("refiner", "second"), 1)},
        }
        self._in_memory = "dream"
        self._library = {name: self._read(name, kind, 0) for name, kind, _ in scenario.networks}
        lora = sys.modules["networks"]
        lora.available_networks = lora.available_network_aliases = {  # type: ignore[attr-defined]
            name: types.SimpleNamespace(filename=str(self._path(name))) for name in self._library
        }

    def models(self) -> dict[str, nn.Module]:
        return {"unet": self._model.model.diffusion_model, "text": self._model.cond_stage_model}

    def tensors(self) -> dict[str, Tensor]:
        found = {
            f"{checkpoint} {name}": value
            for checkpoint, tensors in self._checkpoints.items()
            for name, value in tensors.items()
        }
        for network in self._library.values():
            for key, part in network.modules.items():
                for name, value in vars(part).items():
                    kept = [value] if isinstance(value, Tensor) else []
                    kept += list(value.parameters()) if isinstance(value, nn.Module) else []
                    found |= {
                        f"{network.name} {key} {name} {i}": each
                        for i, each in enumerate(kept)
                        if name != "layer"
                    }
        return found

    def model(self) -> Any:
        return self._model

    def new_p(self) -> Any:
        return stand_in.Processing()

    def new_sampler(self) -> Any:
        return Sampler()

    def load_checkpoint(self, name: str) -> None:
        if name == self._in_memory:
            return
        for layer in self._layers.values():
            layer.network_current_names = ()
            layer.network_weights_backup = layer.network_bias_backup = None
        self._model.text_layer.bias = None  # a network may have given it one
        for key, value in _state(self._model).items():
            value.copy_(self._checkpoints[name][key])
        self._model.sd_checkpoint_info = stand_in.checkpoint(f"models/{name}.safetensors")
        self._in_memory = name
        sys.modules["networks"].loaded_networks.clear()

    def activate(self, networks: Sequence[tuple[str, str, float]]) -> None:
        loaded = []
        for name, _, strength in networks:
            if self._path(name).is_file():
                network = self._library[name]
                network.te_multiplier = network.unet_multiplier = strength
                loaded.append(network)
        sys.modules["networks"].loaded_networks[:] = loaded

    def refresh(self) -> None:
        """Nothing: there is one object of each."""

    def change_network(self, name: str, how: str) -> Callable[[], None]:
        before = self._library[name]

        def undo() -> None:
            self._path(name).touch()
            self._library[name] = before

        if how == "deleted":
            self._path(name).unlink()
        else:
            kinds = [kind for kind in A1111_KINDS if kind != before.kind]
            self._library[name] = self._read(name, kinds[0] if how == "replaced" else before.kind, 1)
        return undo

    def loop(self, p: Any, step: Callable[[Any, Any], None]) -> list[Tensor]:
        done = 0

        def before(params: Any) -> None:
            nonlocal done
            if p.refiner_at == done // self.scenario.calls_a_step and not p.is_hr_pass:
                self.load_checkpoint("refiner")
            done += 1
            step(params, self._model)

        return stand_in.sample(
            p,
            self._model,
            before,
            prompts=p.prompts,
            pictures=p.batch_size,
            steps=p.hr_second_pass_steps if p.is_hr_pass else p.steps,
            calls_a_step=self.scenario.calls_a_step,
            batch_cond_uncond=self.scenario.together,
        )

    def _read(self, name: str, kind: str, version: int) -> Network:
        self._path(name).touch()
        network = Network(name, kind=kind, mtime=float(version))
        make_parts(network, self._layers, 10 * version + len(name))
        return network

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


def _state(model: stand_in.Model) -> dict[str, Tensor]:
    parts = {
        "model.diffusion_model.": model.model.diffusion_model,
        "cond_stage_model.": model.cond_stage_model,
    }
    return {
        prefix + name: value
        for prefix, part in parts.items()
        for name, value in part.state_dict().items()
        if name != "text.bias"
    }


def _moved(own: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(seed)
    return {key: value + 0.2 * torch.randn(value.shape, generator=noise) for key, value in own.items()}


@contextmanager
def opened(scenario: Scenario, extension: Extension, folder: Path) -> Iterator[A1111]:
    """Have the host run for the block, with our extension."""
    with stand_in.host([], scenario.functional) as model, added(host_modules(False, "")):
        package: Any = sys.modules["modules"]
        package.scripts = types.SimpleNamespace(Script=HostScript, AlwaysVisible=object())
        package.launch_utils = types.SimpleNamespace(git_tag=lambda: "v1.10.1")
        package.shared.sd_model = model
        package.shared.opts.pg_fast_steps = scenario.fast
        extension.use(package.shared)
        with listed(bases(folder, lambda: _state(model)), stand_in.checkpoint):
            yield A1111(scenario, extension, model, folder, package.shared)
