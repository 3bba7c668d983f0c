"""Pipelines whose rows are not known are refused by name; what is left out of a batch is left out whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from lib_pg.hosts.diffusers import guided, installed
from lib_pg.hosts.diffusers.branches import Batch
from lib_pg.hosts.diffusers.pipeline import DiffusersHost
from tests.hosts.diffusers.other_pipelines import PAG, Case
from tests.hosts.diffusers.test_branches import calls_of, case_of, draw
from tests.pipelines import hooks_of, random_network, relative_error, sample, sd_pipeline, settings


class SameCall(StableDiffusionPipeline):
    """One's own class that leaves the call as it is."""


class OwnCall(StableDiffusionPipeline):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class OwnUNetCalls(DiffusionPipeline):
    """One's own pipeline that calls its U-Net with everything in its place, the prompt first."""

    def __init__(self, unet: Any, text_encoder: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, text_encoder=text_encoder, scheduler=scheduler)
        self.text = torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(1))

    def encode_prompt(self, **options: Any) -> tuple[Any, Any]:
        return self.text[:1], torch.zeros_like(self.text[:1])

    @torch.no_grad()
    def __call__(self, rows: int) -> Any:
        latents = torch.ones(rows, 4, 16, 16)
        return self.unet(latents, 500, self.text.repeat_interleave(rows // 2, dim=0)[:rows]).sample


def own(kind: Any) -> Any:
    parts = {name: part for name, part in sd_pipeline().components.items() if part is not None}
    if kind is OwnUNetCalls:
        return kind(**{name: parts[name] for name in ("unet", "text_encoder", "scheduler")})
    pipeline = kind(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_class_of_ones_own_with_diffusers_call_is_guided() -> None:
    pipeline = own(SameCall)
    with guided(pipeline, [random_network(pipeline)], settings()) as run:
        sample(pipeline)
    assert run.ran


@pytest.mark.parametrize("kind", [OwnCall, OwnUNetCalls])
def test_an_unknown_pipeline_is_refused_by_name(kind: Any) -> None:
    pipeline = own(kind)
    message = rf"^{kind.__name__} cannot be guided: .*branches=\('unconditional', 'prompt'\)$"
    with pytest.raises(RuntimeError, match=message), guided(pipeline, [], settings()):
        pass
    assert hooks_of(pipeline) == 0
    with guided(pipeline, [], settings(enabled=False)):
        pass


def test_it_is_guided_once_its_branches_are_named() -> None:
    pipeline = own(OwnCall)
    networks = [random_network(pipeline)]
    with guided(pipeline, networks, settings(), branches=("unconditional", "prompt")) as run:
        sample(pipeline)
        assert run.ran
    with guided(pipeline, networks, settings(), lambda _: None, branches=("unconditional", "prompt")) as run:
        sample(pipeline, guidance_scale=1.0, batch=2)
        assert not run.ran  # it says itself that there is no CFG


def test_of_a_pipeline_with_the_prompt_first_the_last_rows_are_weak() -> None:
    pipeline = own(OwnUNetCalls)
    networks = [random_network(pipeline)]
    with installed(networks):
        plain = pipeline(4)
        with guided(pipeline, networks, settings(weak_ratio=0.2), branches=("prompt", "unconditional")):
            ours = pipeline(4)
    assert relative_error(ours[:2], plain[:2]) < 1e-5
    assert relative_error(ours[2:], plain[2:]) > 1e-2


def test_a_call_with_other_rows_stays_as_it_is_and_is_named() -> None:
    pipeline = own(OwnUNetCalls)
    networks = [random_network(pipeline)]
    said: list[str] = []
    inputs = (torch.ones(4, 4, 16, 16), 500, pipeline.text.repeat(2, 1, 1))
    with installed(networks), torch.no_grad():
        plain = pipeline.unet(*inputs).sample
        with guided(pipeline, networks, settings(), said.append, branches=PAG) as run:
            ours = pipeline.unet(*inputs).sample
    assert torch.equal(ours, plain)
    assert not run.ran
    assert sum("4 rows, no multiple of its 3 branches" in each for each in said) == 1


@pytest.mark.parametrize(
    "branches", [(), ("unconditional",), ("prompt", "prompt"), ("prompt", "negative"), "prompts"]
)
def test_wrong_branches_are_refused_with_those_that_there_are(branches: Any) -> None:
    with (
        pytest.raises(
            ValueError, match=r"^branches are .*: expected 'prompt' and any of 'unconditional', 'image'"
        ),
        guided(own(OwnCall), [], settings(), branches=branches),
    ):
        pass


@pytest.mark.parametrize("how", ["chunks", "split"])
def test_layers_that_see_a_part_of_their_rows_are_refused(how: str) -> None:
    pipeline = case_of("AnimateDiff").make()
    if how == "chunks":
        pipeline.unet.enable_forward_chunking(chunk_size=1, dim=0)
    else:
        pipeline.enable_free_noise(context_length=2, context_stride=1)
        pipeline.enable_free_noise_split_inference()
    with pytest.raises(RuntimeError, match="cuts the rows that layers see"), guided(pipeline, [], settings()):
        pass
    pipeline.unet.enable_forward_chunking(chunk_size=1, dim=1)
    if how == "chunks":
        with guided(pipeline, [], settings()):
            pass


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        (case_of("StableDiffusionInstructPix2Pix"), 2),
        (case_of("StableDiffusionControlNet"), 2),
        (case_of("AnimateDiff"), 2),
        (case_of("StableDiffusionPAG"), 6),
    ],
    ids=["InstructPix2Pix", "ControlNet", "AnimateDiff", "PAG keeps its rows"],
)
def test_outside_the_interval_none_gives_every_branch_the_prompts_prediction(case: Case, rows: int) -> None:
    pipeline = case.make()
    networks = [random_network(pipeline)]
    seen: list[int] = []
    pipeline.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with (
        installed(networks),
        guided(pipeline, networks, settings(start=0.9, outside="None")),
        calls_of(pipeline) as calls,
    ):
        draw(pipeline, case, 2)
    frames = case.options.get("num_frames", 1)
    assert seen[0] == rows * frames
    output = calls[0].output.chunk(len(case.branches))
    prompt = case.branches.index("prompt")
    with installed(networks), calls[0].replayed(pipeline):
        whole = calls[0].again(pipeline).chunk(len(case.branches))
    torch.testing.assert_close(output[prompt], whole[prompt], rtol=1e-4, atol=1e-5)
    for branch, part in zip(case.branches, output, strict=True):
        if branch != "perturbed":
            assert torch.equal(part, output[prompt])


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(None, 0.5, (0, 5)), (0.5, None, (5, 10)), (0.2, 0.7, (2, 7))]
)
def test_sdxl_in_parts_counts_the_steps_that_it_runs(start: Any, end: Any, expected: tuple[int, int]) -> None:
    timesteps = torch.arange(900, -1, -100)
    run = timesteps[slice(*expected)]
    scheduler = SimpleNamespace(timesteps=timesteps, config=SimpleNamespace(num_train_timesteps=1000))
    pipeline = SimpleNamespace(
        scheduler=scheduler, denoising_start=start, denoising_end=end, num_timesteps=len(run)
    )
    host = DiffusersHost(pipeline, [], lambda _: None)
    assert [host.step_at(float(level)) for level in run] == [(step, len(run)) for step in range(len(run))]


def test_tensors_that_are_no_rows_stay() -> None:
    batch = Batch(PAG, 6)
    values = {"rows": torch.arange(6), "frames": torch.arange(12), "mask": torch.zeros(1, 4), "none": None}
    changed = batch.each([values, (torch.tensor(3.0), torch.zeros(0))], lambda rows: rows + 1)
    assert torch.equal(changed[0]["rows"], torch.arange(1, 7))
    assert torch.equal(changed[0]["frames"], torch.arange(1, 13))
    assert torch.equal(changed[0]["mask"], values["mask"])
    assert changed[0]["none"] is None
    assert float(changed[1][0]) == 3.0
