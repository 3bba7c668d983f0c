"""Which rows are weak in diffusers' pipelines: each is held against two whole evaluations of the U-Net."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.deltas.merge import merged
from lib_pg.hosts.diffusers import guided, installed
from tests.hosts.diffusers.other_pipelines import CASES, Case, with_picture_prompt
from tests.pipelines import random_network, relative_error, settings

OMEGA = 0.3
WEAK = ("unconditional", "image")
# These take one video.
ONE_VIDEO = ("AnimateDiffControlNetPipeline", "AnimateDiffVideoToVideoPipeline")


def names(case: Case) -> str:
    return "-".join([case.name.removesuffix("Pipeline"), *map(str, case.options), *case.branches])


@pytest.mark.parametrize("case", CASES, ids=names)
def test_the_weak_rows_are_those_without_the_prompt(case: Case) -> None:
    check(case, "PG", 2)


def case_of(name: str, *options: str) -> Case:
    return next(
        case for case in CASES if case.name == f"{name}Pipeline" and set(options) <= set(case.options)
    )


SOME = (
    case_of("StableDiffusionPAG"),
    case_of("StableDiffusionXLPAG"),
    case_of("StableDiffusionInstructPix2Pix"),
    case_of("StableDiffusionControlNet"),
    case_of("StableDiffusionControlNet", "guess_mode"),
    case_of("StableDiffusionXLImg2Img"),
    case_of("AnimateDiffSDXL"),
)


@pytest.mark.parametrize("case", SOME, ids=names)
def test_one_picture(case: Case) -> None:
    check(case, "PG", 1)


@pytest.mark.parametrize("case", SOME, ids=names)
def test_autoguidance_has_all_that_belongs_to_the_prompt(case: Case) -> None:
    """Its text, its sizes, its picture, and what the ControlNet makes of it."""
    check(case, "AG", 2)


@pytest.mark.parametrize("mode", ["PG", "AG"])
@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusionXL"])
def test_the_picture_of_an_ip_adapter_belongs_to_the_prompt(name: str, mode: str) -> None:
    """With the null prompt weak rows keep the negative picture, in autoguidance they get the prompt's."""
    case = case_of(name)
    pipeline = case.make()
    options = with_picture_prompt(pipeline)
    check(dataclasses.replace(case, options=options), mode, 2, pipeline)


def check(case: Case, mode: str, count: int, pipeline: Any = None) -> None:
    pipeline = pipeline or case.make()
    networks = [random_network(pipeline)]
    said: list[str] = []
    with calls_of(pipeline) as calls:
        with (
            installed(networks),
            guided(pipeline, networks, settings(mode=mode, weak_ratio=OMEGA), said.append),
        ):
            draw(pipeline, case, count)
        call = calls[0]
    assert ("CFG scale 1" in "".join(said)) == ("unconditional" not in case.branches)
    pictures = 1 if case.name in ONE_VIDEO else count
    assert len(call.inputs["sample"]) == pictures * len(case.branches)
    rows = [(branch, picture) for branch in case.branches for picture in range(pictures)]
    weak = [row for row, (branch, _) in enumerate(rows) if branch in WEAK]
    strong = [row for row in range(len(rows)) if row not in weak]
    part = networks[0].parts["unet"]
    with call.replayed(pipeline), merged([part]):
        assert relative_error(call.output[strong], call.again(pipeline)[strong]) < 1e-5
    if weak:
        inputs = null_in(weak, pipeline, networks, call) if mode == "PG" else repeated(rows, call.inputs)
        with call.replayed(pipeline), merged([part], OMEGA):
            expected = call.again(pipeline, **inputs)
        assert relative_error(call.output[weak], expected[weak]) < 1e-5
        assert relative_error(expected[weak], call.again(pipeline)[weak]) > 1e-3


def null_in(rows: Sequence[int], pipeline: Any, networks: Any, call: Call) -> dict[str, Any]:
    """Return the call's text with the null prompt in `rows`, each of which may have several frames."""
    others = [part for name, part in networks[0].parts.items() if name != "unet"]
    video = type(pipeline).__name__ == "AnimateDiffSDXLPipeline"
    count = {"num_videos_per_prompt" if video else "num_images_per_prompt": 1}
    with merged(others, OMEGA), torch.no_grad():
        if hasattr(pipeline, "encode_prompt"):
            _, null, *pooled = pipeline.encode_prompt(
                prompt="", device="cpu", do_classifier_free_guidance=True, **count
            )
        else:
            null, pooled = pipeline._encode_prompt("", "cpu", 1, False), []
    text = call.inputs["encoder_hidden_states"].clone()
    total = len(call.inputs["sample"])
    text.view(total, -1, *text.shape[1:])[rows] = null
    if not pooled:
        return {"encoder_hidden_states": text}
    added = {**call.inputs["added_cond_kwargs"]}
    added["text_embeds"] = added["text_embeds"].clone()
    added["text_embeds"][rows] = pooled[1]
    return {"encoder_hidden_states": text, "added_cond_kwargs": added}


def repeated(rows: Sequence[tuple[str, int]], inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions of a call where weak rows have those of the same picture's prompt."""
    source = [
        rows.index(("prompt", picture)) if branch in WEAK else row
        for row, (branch, picture) in enumerate(rows)
    ]

    def taken(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.view(len(rows), -1, *value.shape[1:])[source].view_as(value)
        if isinstance(value, dict):
            return {key: taken(item) for key, item in value.items()}
        return [taken(item) for item in value] if isinstance(value, (list, tuple)) else value

    conditions = ("encoder_hidden_states", "added_cond_kwargs", "mid_block_additional_residual")
    several = ("down_block_additional_residuals", "down_intrablock_additional_residuals")
    return {name: taken(inputs[name]) for name in (*conditions, *several) if inputs.get(name) is not None}


def draw(pipeline: Any, case: Case, count: int = 1, **options: Any) -> Any:
    prompt: Any = "a sks dog"
    if case.name.startswith("AnimateDiff"):
        number, prompt = {}, [prompt] * (1 if case.name in ONE_VIDEO else count)
    else:
        number = {"num_images_per_prompt": count}
    call = {"num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "latent"}
    call |= {"generator": torch.Generator().manual_seed(5), **number, **case.options, **options}
    with torch.no_grad():
        return pipeline(prompt=prompt, **call)[0]


@dataclass
class Call:
    """One call of the U-Net: as the pipeline made it, and what the pipeline got."""

    inputs: dict[str, Any]
    processors: dict[str, Any]
    output: Tensor

    @contextmanager
    def replayed(self, pipeline: Any) -> Iterator[None]:
        """Have the attention processors of the call again, which PAG takes away after its run."""
        before = dict(pipeline.unet.attn_processors)
        pipeline.unet.set_attn_processor(dict(self.processors))
        try:
            yield
        finally:
            pipeline.unet.set_attn_processor(before)

    def again(self, pipeline: Any, **changes: Any) -> Tensor:
        with torch.no_grad():
            return pipeline.unet(**copied({**self.inputs, **changes, "return_dict": False}))[0]


def copied(value: Any) -> Any:
    """Return `value` with lists of its own: U-Nets take from them."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


@contextmanager
def calls_of(pipeline: Any) -> Iterator[list[Call]]:
    calls: list[Call] = []
    inputs: list[dict[str, Any]] = []

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = dict(zip(("sample", "timestep"), args, strict=True))
        inputs.append(copied({**given, **kwargs}))

    def after(unet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(Call(inputs.pop(), dict(unet.attn_processors), output[0].clone()))

    with ExitStack() as stack:
        hook = pipeline.unet.register_forward_pre_hook(before, with_kwargs=True, prepend=True)
        stack.callback(hook.remove)
        guided_later = pipeline.unet.register_forward_hook(after, with_kwargs=True)
        stack.callback(guided_later.remove)
        yield calls
