"""What AUTOMATIC1111's user is told of networks: what is weakened, what is not, which pass it is about."""

from __future__ import annotations

import types
from typing import Any

import pytest

from tests.hosts.a1111.guided import ON, dog, guided, start
from tests.hosts.a1111.stand_in import Network, Processing, host

ONE = {"prompts": ["a dog"], "pictures": 1}


@pytest.mark.parametrize(
    ("steps", "scale", "hires_steps", "spared"),
    [
        (20, 7.0, None, False),
        (6, 7.0, None, True),
        (20, 1.5, None, True),
        (20, 7.0, 6, True),
        (6, 7.0, 0, True),
    ],
)
def test_steps_and_scale_of_the_pass_decide_on_accelerators(
    steps: int, scale: float, hires_steps: int | None, spared: bool
) -> None:
    with host([Network("lcm-lora-sdv1-5")]) as model:
        p = Processing()
        p.steps, p.cfg_scale = steps, scale
        if hires_steps is not None:
            p.is_hr_pass, p.hr_second_pass_steps = True, hires_steps
        guided(model, ON, p, **ONE)
    assert any("is an accelerator" in comment for comment in p.comments) == spared


def params(*items: str) -> Any:
    """The host's own reading of one tag."""
    named = {key: value for key, _, value in (item.partition("=") for item in items) if value}
    return types.SimpleNamespace(positional=[item for item in items if "=" not in item], named=named)


@pytest.mark.parametrize("kind", ["lora", "lyco"])
@pytest.mark.parametrize("argument", ["pg=0.25", "PG=0.25", " pg = 0.25"])
def test_a_ratio_in_a_tag_is_read_however_it_is_spelled(kind: str, argument: str) -> None:
    with host([dog()]) as model:
        guidance = start(Processing(), ON)
        assert guidance is not None
        guidance.read_ratios({kind: [params("dog", "1", argument)]})
        guidance.begin_pass(model)
        assert guidance._pass is not None
        assert [network.own_ratio for network in guidance._pass.networks()] == [0.25]
        guidance.end_pass()


def test_a_ratio_that_the_host_takes_for_a_strength_is_said() -> None:
    p = Processing()
    guidance = start(p, ON)
    assert guidance is not None
    guidance.read_ratios({"lora": [params("dog", "1", "pg:0.3")]})
    (comment,) = p.comments
    assert "'pg:0.3' is a strength to the host" in comment
