"""A small stand-in of how Forge and its relatives sample: uncond first, and split by free memory."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lib_pg.hosts.forge.sampling_pass import ForgePass
from lib_pg.hosts.webui.generation import WebuiGuidance
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.settings import Settings
from tests.hosts.forge.stand_in import WIDTH, Engine, SdConditioning, UNet

COND, UNCOND = 0, 1


class InterruptedException(BaseException):
    """What the host's denoiser raises when the user interrupts."""


class Sampler:
    def callback_state(self, d: Any) -> None:
        """Called by the host when a step is finished."""

    def launch_sampling(self, steps: int, func: Callable[[], Any]) -> Any:
        try:
            return func()
        except InterruptedException:
            return None


class Processing:
    """What the host calls `p`."""

    width = height = 64
    hr_upscale_to_x = hr_upscale_to_y = 64
    steps = 20
    hr_second_pass_steps = 0

    def __init__(self) -> None:
        self.sampler = Sampler()
        self.extra_generation_params: dict[str, str] = {}
        self.comments: list[str] = []
        self.is_hr_pass = False
        self.hr_extra_network_data: Any = None
        self.cfg_scale = self.hr_cfg = 7.0
        self.distilled_cfg_scale = self.hr_distilled_cfg = 3.5

    def cached_params(
        self,
        required_prompts: list[str],
        steps: int,
        extra_network_data: Any,
        hires_steps: int | None = None,
        use_old_scheduling: bool = False,
    ) -> tuple[Any, ...]:
        """What an encoded prompt depends on."""
        guidance = self.distilled_cfg_scale, self.hr_distilled_cfg
        return (required_prompts, guidance, steps, extra_network_data, hires_steps, use_old_scheduling)

    def comment(self, text: str) -> None:
        self.comments.append(text)


@dataclass
class Params:
    """The host's CFGDenoiserParams."""

    x: Tensor
    text_cond: Any
    text_uncond: Any
    sampling_step: int
    total_sampling_steps: int


@dataclass
class Evaluation:
    """What one evaluation of the model gave: cond of each chunk of prompts, uncond where it ran, and both."""

    cond: list[Tensor]
    uncond: Tensor | None
    denoised: Tensor


# Another extension's own call of the model: a conditioning taken for a prompt's, and the picture.
Again = Callable[[Any, Tensor], Tensor]


def sample(
    p: Processing,
    engine: Engine,
    callback: Callable[[Params, Engine], None],
    *,
    prompts: Sequence[str] = ("a dog",),
    pictures: int = 1,
    steps: int = 4,
    calls_a_step: int = 1,
    room: int = 9,
    uncond_first: bool = True,
    skip_uncond: bool = False,
    without_uncond: bool = False,
    negative: str = "ugly",
    tiles: int = 1,
    strength: float = 1.0,
    refiner: tuple[int, Engine] | None = None,
    afterwards: Callable[[Params, Again], None] | None = None,
) -> list[Evaluation]:
    """Run the host's loop; return every evaluation of its model.

    Args:
        prompts: one for each picture, or several one after the other where they are joined by AND.
        calls_a_step: 2 for second-order samplers.
        room: chunks of rows that fit into one call of the U-Net.
        uncond_first: the hosts' usual order.
        skip_uncond: whether the user's options leave uncond out.
        without_uncond: whether there is none at all, as at CFG scale 1.
        tiles: how often an extension repeats the rows in one call, as it does for parts of a picture.
        strength: the prompts' own, as `a dog :0.5` has it.
        refiner: a step, and the model that takes over there.
        afterwards: another extension, called after each evaluation.
    """
    evaluations: list[Evaluation] = []
    finished = p.sampler.callback_state

    def loop() -> None:
        nonlocal engine
        _load(engine)
        for step in range(steps):
            if refiner is not None and refiner[0] == step:
                engine = refiner[1]
                _load(engine)
            for call in range(calls_a_step):
                evaluations.append(evaluate(step, call))
            finished({"i": step})

    def conditionings() -> tuple[Any, Any]:
        size = {"width": p.hr_upscale_to_x if p.is_hr_pass else p.width}
        size["height"] = p.hr_upscale_to_y if p.is_hr_pass else p.height
        scale = p.hr_distilled_cfg if p.is_hr_pass else p.distilled_cfg_scale
        both = []
        for texts, is_negative in ((prompts, False), ([negative] * pictures, True)):
            prompt = SdConditioning([*texts], is_negative, **size, distilled_cfg_scale=scale)
            both.append(engine.get_learned_conditioning(prompt))
        _load(engine)  # the host encodes before its loop; here it is simpler to do it as it goes
        return both[0], None if without_uncond else both[1]

    def evaluate(step: int, call: int) -> Evaluation:
        torch.default_generator.manual_seed(step * 10 + call)
        x = torch.randn(pictures, WIDTH, 4, 4)
        params = Params(x, *conditionings(), max(step - 1, 0), steps)
        callback(params, engine)
        scale = getattr(p, "hr_cfg", p.cfg_scale) if p.is_hr_pass else p.cfg_scale
        scale = 1.0 if skip_uncond else scale
        options = engine.forge_objects.unet.model_options
        each = len(prompts) // pictures
        cond = [
            {"conditioning": _rows(params.text_cond, range(chunk, len(prompts), each)), "strength": strength}
            for chunk in range(each)
        ]
        uncond = None if params.text_uncond is None else [{"conditioning": params.text_uncond}]
        for modifier in options.get("conditioning_modifiers", []):
            _, x, _, uncond, cond, scale, options, _ = modifier(
                engine.unet, x, torch.ones(pictures), uncond, cond, scale, options, 1
            )
        branches = [(item["conditioning"], COND) for item in cond]
        if uncond is not None and not math.isclose(scale, 1.0):
            branches += [(item["conditioning"], UNCOND) for item in uncond]
        found = _predict(engine.unet, x, branches, room, tiles, uncond_first)
        prompted, rest = found[: len(cond)], found[len(cond) :]
        mean = torch.stack(prompted).mean(0)
        weak = rest[0] if rest else torch.zeros_like(x)
        if afterwards is not None:
            afterwards(params, lambda text, x: _predict(engine.unet, x, [(text, COND)], room)[0])
        return Evaluation(prompted, rest[0] if rest else None, weak + (mean - weak) * scale * len(cond))

    p.sampler.launch_sampling(steps, loop)
    return evaluations


def _load(engine: Engine) -> None:
    engine.unet.is_loaded = True


def _rows(conditioning: Any, rows: Sequence[int]) -> Any:
    if isinstance(conditioning, dict):
        return {key: value[[*rows]] for key, value in conditioning.items()}
    return conditioning[[*rows]]


def _predict(
    unet: UNet, x: Tensor, branches: list[tuple[Any, int]], room: int, tiles: int = 1, backwards: bool = True
) -> list[Tensor]:
    """Return the prediction for each branch: those of one call are run in that order or backwards."""
    results: dict[int, Tensor] = {}
    waiting = list(range(len(branches)))
    while waiting:
        together = (waiting[::-1] if backwards else waiting)[:room]
        waiting = [index for index in waiting if index not in together]
        given = [branches[index][0] for index in together]
        texts = [text["crossattn"] if isinstance(text, dict) else text for text in given]
        length = math.lcm(*(text.shape[1] for text in texts))
        extra = {"y": "vector", "guidance": "guidance"} if isinstance(given[0], dict) else {}
        inputs = {
            "context": torch.cat([text.repeat(1, length // text.shape[1], 1) for text in texts]),
            **{
                name: torch.cat([text[key] for text in given])
                for name, key in extra.items()
                if key in given[0]
            },
        }
        rows = torch.cat([x] * len(together))
        found = unet(
            torch.cat([rows] * tiles),
            torch.ones(len(rows) * tiles),
            control=None,
            transformer_options={"cond_or_uncond": [branches[index][1] for index in together]},
            **{name: torch.cat([value] * tiles) for name, value in inputs.items()},
        )
        whole = found.view(tiles, len(rows), *x.shape[1:]).mean(0)
        results |= dict(zip(together, whole.chunk(len(together)), strict=True))
    return [results[index] for index in range(len(branches))]


def start(
    p: Processing, settings: dict[str, Any], null_prompts: NullPrompts | None = None, **options: Any
) -> WebuiGuidance:
    options = {"null_prompts": null_prompts or NullPrompts(), **options}
    guidance = WebuiGuidance.start(
        p, lambda: Settings.from_dict(settings), ForgePass, lambda message: None, **options
    )
    assert guidance is not None
    return guidance


def guided(
    engine: Engine,
    settings: dict[str, Any],
    p: Processing | None = None,
    ratio: str | None = None,
    weak: str | None = None,
    null_prompts: NullPrompts | None = None,
    chosen: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> tuple[list[Evaluation], Processing]:
    """Run the host with the extension as its script calls it; `chosen` is what its settings page says."""
    p = p or Processing()
    guidance = start(p, settings, null_prompts, **chosen)
    named = {key: value for key, value in {"pg": ratio, "weak": weak}.items() if value is not None}
    names = {network.mentioned_name for network in sys.modules["networks"].loaded_networks}
    mentions = [types.SimpleNamespace(positional=["dog", "1"], named=named)] if "dog" in names else []
    guidance.read_ratios({"lora": mentions})
    guidance.write_infotext()
    engine.forge_objects = engine.forge_objects_after_applying_lora.shallow_copy()
    guidance.begin_pass(engine)
    if p.is_hr_pass:  # the hosts tell scripts twice, and take fresh objects in between
        engine.forge_objects = engine.forge_objects_after_applying_lora.shallow_copy()
        guidance.begin_pass(engine)
    evaluations = sample(p, engine, guidance.before_step, **options)
    guidance.end_batch()
    return evaluations, p


def plain(engine: Engine, p: Processing | None = None, **options: Any) -> list[Evaluation]:
    engine.forge_objects = engine.forge_objects_after_applying_lora.shallow_copy()
    return sample(p or Processing(), engine, lambda params, engine: None, **options)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """To a hundred thousandth of the largest value: float32 allows no more after a few layers."""
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-5 * float(theirs.abs().max()))


def is_same(ours: list[Evaluation], theirs: list[Evaluation]) -> bool:
    """Whether all pictures are the same to the bit, uncond or no uncond included."""
    return all(
        torch.equal(our.denoised, their.denoised) and (our.uncond is None) == (their.uncond is None)
        for our, their in zip(ours, theirs, strict=True)
    )


def hooks(engine: Engine) -> int:
    objects = engine.forge_objects_original
    models = objects.unet.model, objects.clip.patcher.model
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in vars(m))
        for model in models
        for m in model.modules()
    )
