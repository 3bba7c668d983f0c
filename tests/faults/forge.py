"""The stand-in of Forge and its relatives as a WebUI."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_pg.hosts.webui.base_checkpoint import forget_base
from tests.faults.extension import Extension, HostScript, added, host_modules
from tests.faults.files import bases, listed
from tests.faults.scenario import FORGE_KINDS, Scenario
from tests.faults.webui import Webui
from tests.hosts.forge import network_files, sampling, stand_in
from tests.hosts.forge.network_files import Change, Network, network_file
from tests.hosts.forge.stand_in import WIDTH, Engine


class Forge(Webui):
    """Forge: a model for each checkpoint; networks are merged when they are activated, and all or none."""

    interrupted = sampling.InterruptedException

    def __init__(self, scenario: Scenario, extension: Extension, engine: Engine, folder: Path) -> None:
        super().__init__(scenario, extension)
        self.shared: Any = sys.modules["modules"].shared  # type: ignore[attr-defined]
        self._folder = folder
        self._engines = {"dream": engine}
        self._in_use = "dream"
        self._kinds = {name: (kind, 0) for name, kind, _ in scenario.networks}
        self._files: dict[tuple[str, str, int], list[Change]] = {}
        for name in self._kinds:
            self._path(name).touch()
        lora: Any = sys.modules["networks"]
        cached = scenario.relative != "Forge Neo"
        lora.load_lora_state_dict = functools.lru_cache(maxsize=5)(self._load) if cached else self._load
        lora.available_networks = lora.available_network_aliases = {
            name: types.SimpleNamespace(filename=str(self._path(name))) for name in self._kinds
        }

    def models(self) -> dict[str, nn.Module]:
        return {
            f"{name} {part}": patcher.model
            for name, engine in self._engines.items()
            for part, patcher in (
                ("unet", engine.forge_objects_original.unet),
                ("text", engine.forge_objects_original.clip.patcher),
            )
        }

    def tensors(self) -> dict[str, Tensor]:
        found = {
            f"{name} pristine {part} {key}": value
            for name, engine in self._engines.items()
            for part, weights in enumerate(engine.pristine)
            for key, value in weights.items()
        }
        for (name, _, version), changes in self._files.items():
            for number, change in enumerate(changes):
                found |= {
                    f"{name} {version} {number} {i}": value
                    for i, value in enumerate(change.value[1])
                    if isinstance(value, Tensor)
                }
        return found

    def model(self) -> Engine:
        return self._engines[self._in_use]

    def new_p(self) -> Any:
        return sampling.Processing()

    def new_sampler(self) -> Any:
        return sampling.Sampler()

    def load_checkpoint(self, name: str) -> None:
        if name not in self._engines:
            engine = Engine(self.model().kind, self.model().family)
            noise = torch.Generator().manual_seed(len(name))
            for weights, patcher in zip(
                engine.pristine,
                (engine.forge_objects_original.unet, engine.forge_objects_original.clip.patcher),
                strict=True,
            ):
                for key, value in patcher.model.named_parameters():
                    value.add_(0.2 * torch.randn(value.shape, generator=noise))
                    weights[key].copy_(value)
            engine.sd_checkpoint_info = stand_in.checkpoint(f"models/{name}.safetensors")
            self._engines[name] = engine
        if name != self._in_use:  # the host throws its engine away, and what hangs on it
            forget_base(self.model())
        self._in_use, self.shared.sd_model = name, self._engines[name]

    def activate(self, networks: Sequence[tuple[str, str, float]]) -> None:
        if not all(self._path(name).is_file() for name, _, _ in networks):
            networks = ()
        used = []
        for name, _, strength in networks:
            network = Network(name, strength, strength)
            network.network_on_disk.filename = str(self._path(name))
            used.append((network, self._changes(name)))
        loaded = sys.modules["networks"].loaded_networks
        loaded[:] = [network for network, _ in used]
        for network, _ in used:
            sys.modules["networks"].load_lora_state_dict(network.network_on_disk.filename)
        network_files.activate(self.model(), used)

    def refresh(self) -> None:
        engine = self.model()
        engine.forge_objects = engine.forge_objects_after_applying_lora.shallow_copy()

    def tell_again(self, p: Any) -> None:
        self.refresh()
        self._run("process_before_every_sampling", p)

    def change_network(self, name: str, how: str) -> Callable[[], None]:
        before = self._kinds[name]
        if how == "deleted":
            self._path(name).unlink()
        else:
            others = [kind for kind in FORGE_KINDS if kind != before[0]]
            self._kinds[name] = (others[0] if how == "replaced" else before[0], 1)

        def undo() -> None:
            self._path(name).touch()
            self._kinds[name] = before

        return undo

    def loop(self, p: Any, step: Callable[[Any, Any], None]) -> list[Tensor]:
        refiner = None
        if p.refiner_at is not None and not p.is_hr_pass:
            refiner = (p.refiner_at, self._refiner(p))

        def before(params: Any, engine: Engine) -> None:
            if engine is not self.model():
                self.load_checkpoint("refiner")
            step(params, engine)

        found = sampling.sample(
            p,
            self.model(),
            before,
            prompts=p.prompts,
            pictures=p.batch_size,
            steps=p.hr_second_pass_steps if p.is_hr_pass else p.steps,
            calls_a_step=self.scenario.calls_a_step,
            room=9 if self.scenario.together else 1,
            refiner=refiner,
        )
        return [evaluation.denoised for evaluation in found]

    def _refiner(self, p: Any) -> Engine:
        """Return the refiner with the networks in it, as it will be when it takes over."""
        own = self._in_use
        self.load_checkpoint("refiner")
        kept = list(sys.modules["networks"].loaded_networks)
        self.activate(p.networks)
        self.refresh()
        sys.modules["networks"].loaded_networks[:] = kept
        self.load_checkpoint(own)
        return self._engines["refiner"]

    def _changes(self, name: str) -> list[Change]:
        kind, version = self._kinds[name]
        key = (name, kind, version)
        if key not in self._files:
            self._files[key] = _file(kind, 20 * version + len(name))
        return self._files[key]

    def _load(self, filename: str) -> dict[str, Tensor]:
        path = Path(filename)
        if not path.is_file():
            raise FileNotFoundError(filename)
        tensors = [t for change in self._changes(path.stem) for t in change.value[1] if isinstance(t, Tensor)]
        return {str(index): tensor for index, tensor in enumerate(tensors)}

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


def _file(kind: str, seed: int) -> list[Change]:
    """Return a network of a kind as the hosts read it."""
    if kind == "lora":
        return network_file(seed)
    noise = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=noise)

    shapes = {
        "diffusion_model.point.weight": (WIDTH, WIDTH, 1, 1),
        "diffusion_model.out.weight": (WIDTH, WIDTH),
        "clip_l.layer.weight": (WIDTH, WIDTH),
    }
    made = {
        "diff": lambda shape: (random(*shape),),
        "glora": lambda shape: (random(*shape).flatten(1), random(WIDTH, WIDTH)),
        "newest": lambda shape: (),
    }
    return [Change(key, (kind, made[kind](shape))) for key, shape in shapes.items()]


@contextmanager
def opened(scenario: Scenario, extension: Extension, folder: Path) -> Iterator[Forge]:
    """Have the host run for the block, with our extension."""
    relative: Any = scenario.relative
    with network_files.host((), relative) as engine, added(host_modules(True, relative)):
        package: Any = sys.modules["modules"]
        package.scripts = types.SimpleNamespace(Script=HostScript, AlwaysVisible=object())
        package.shared.sd_model = engine
        package.shared.opts.pg_fast_steps = scenario.fast
        models = types.ModuleType("modules.sd_models")
        models.__spec__ = ModuleSpec("modules.sd_models", None)
        with added({"modules.sd_models": models}):
            extension.use(package.shared)
            with listed(bases(folder, lambda: _state(engine)), stand_in.checkpoint):
                yield Forge(scenario, extension, engine, folder)


def _state(engine: Engine) -> dict[str, Tensor]:
    parts = {"model.diffusion_model.": engine.unet, "cond_stage_model.transformer.layer.": engine.text_layer}
    return {prefix + name: value for prefix, part in parts.items() for name, value in part.named_parameters()}
