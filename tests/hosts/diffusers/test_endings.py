"""What the user of a diffusers pipeline is told, and what is left when it is off or ends in whatever way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lib_pg.deltas.merge import merged
from lib_pg.hosts.diffusers import guided, installed, models_of
from tests.pipelines import (
    NEGATIVE,
    Make,
    families,
    hooks_of,
    random_network,
    same_bits,
    sample,
    sd_pipeline,
    settings,
    weights_of,
)


@families
@pytest.mark.parametrize("controls", [{"enabled": False}, {"mode": "CFG"}], ids=["off", "CFG"])
def test_off_changes_no_bit(make: Make, controls: dict[str, Any]) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    with installed(networks):
        plain = sample(pipeline, negative_prompt=NEGATIVE)
        with guided(pipeline, networks, settings(weak_ratio=0.0, **controls)) as run:
            ours = sample(pipeline, negative_prompt=NEGATIVE)
    assert not run.ran
    assert torch.equal(ours, plain)


@families
def test_outside_the_interval_cfg_is_plain_cfg(make: Make) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    with installed(networks):
        plain = sample(pipeline, negative_prompt=NEGATIVE)
        with guided(pipeline, networks, settings(start=0.5, end=0.5)) as run:
            ours = sample(pipeline, negative_prompt=NEGATIVE)
    assert torch.equal(ours, plain)
    assert not run.ran


@families
def test_after_any_ending_weights_are_bit_identical_and_no_hook_is_left(make: Make) -> None:
    pipeline = make()
    networks = [random_network(pipeline)]
    before, plain = weights_of(pipeline), sample(pipeline)
    own_hooks = hooks_of(pipeline)  # transformers leaves some for hidden states

    class Interrupt(BaseException):
        pass

    def interrupt(*_: Any) -> dict[str, Any]:
        raise Interrupt

    def out_of_memory(*_: Any) -> None:
        raise MemoryError

    with pytest.raises(Interrupt), installed(networks), guided(pipeline, networks, settings()):
        sample(pipeline, callback_on_step_end=interrupt)
    assert hooks_of(pipeline) == own_hooks
    deep = next(reversed(models_of(pipeline)["unet"].up_blocks)).resnets[0].conv1
    broken = deep.register_forward_hook(out_of_memory)
    with pytest.raises(MemoryError), installed(networks), guided(pipeline, networks, settings()):
        sample(pipeline)
    broken.remove()
    with installed(networks), guided(pipeline, networks, settings()):
        sample(pipeline)
    assert hooks_of(pipeline) == own_hooks
    assert same_bits(weights_of(pipeline), before)
    assert torch.equal(sample(pipeline), plain)


def test_guiding_twice_is_refused_and_leaves_the_first_intact() -> None:
    pipeline = sd_pipeline()
    networks = [random_network(pipeline)]
    with installed(networks), guided(pipeline, networks, settings()):
        inside = hooks_of(pipeline)
        with pytest.raises(RuntimeError, match="already"), guided(pipeline, networks, settings()):
            pass
        assert hooks_of(pipeline) == inside
    assert hooks_of(pipeline) == 0


@pytest.mark.parametrize(
    ("controls", "options", "networked", "expected"),
    [
        ({}, {"guidance_scale": 1.0}, True, "CFG scale 1"),
        ({}, {}, False, "with your negative prompt"),
        ({"mode": "AG"}, {}, False, "plain CFG"),
        ({"networks": "other"}, {}, True, "'other'"),
    ],
)
def test_what_would_surprise_is_said_once(
    controls: dict[str, Any], options: dict[str, Any], networked: bool, expected: str
) -> None:
    pipeline = sd_pipeline()
    networks = [random_network(pipeline)] if networked else []
    said: list[str] = []
    with guided(pipeline, networks, settings(**controls), said.append):
        sample(pipeline, **options)
    assert sum(expected in message for message in said) == 1


def test_merging_and_taking_out_leaves_the_same_bits_in_half_precision() -> None:
    pipeline = sd_pipeline(torch.float16)
    network = random_network(pipeline)
    before = weights_of(pipeline)
    with merged([*network.parts.values()]):
        assert not same_bits(weights_of(pipeline), before)
    assert same_bits(weights_of(pipeline), before)
