"""What AUTOMATIC1111's user is told of networks: what is weakened, what is not, which pass it is about."""

from __future__ import annotations

import pytest

from tests.hosts.a1111.guided import ON, guided
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
