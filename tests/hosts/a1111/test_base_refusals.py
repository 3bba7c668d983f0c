"""What cannot be a base checkpoint in AUTOMATIC1111 is said, before the run or within it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_pg.formats import difference
from tests.hosts.a1111.based import ON, OPTIONS, listed
from tests.hosts.a1111.guided import dog, guided, hooks, plain, start
from tests.hosts.a1111.stand_in import Processing, checkpoint, host, sample


def test_a_refiner_is_no_fine_tune_of_the_base(tmp_path: Path, base: dict[str, Tensor]) -> None:
    with host([]) as model:
        listed(tmp_path)
        p = Processing()
        guidance = start(p, ON)
        assert guidance is not None
        guidance.begin_pass(model)

        def step(params: Any) -> None:
            if params.sampling_step == 1:
                model.sd_checkpoint_info = checkpoint("models/refiner.safetensors")
            guidance.before_step(params, model)

        sample(p, model, step, **OPTIONS)
        guidance.end_batch()
    (comment,) = p.comments
    assert "refiner: a refiner is not weakened towards the base checkpoint" in comment
    assert "So nothing is left to weaken" in comment


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (lambda path: path.write_bytes(b"\x80" + bytes(99)), "is a Python pickle"),
        (lambda path: path.unlink(), "there is no such file|No such file|is none of the host's"),
        (lambda path: save_file({"x": torch.zeros(1)}, path), "holds 0 of"),
    ],
)
def test_what_cannot_be_a_base_is_said_and_networks_alone_are_weakened(
    tmp_path: Path, base: dict[str, Tensor], damage: Any, pattern: str
) -> None:
    with host([dog()]) as model:
        listed(tmp_path)
        damage(tmp_path / "base.safetensors")
        ours, p = guided(model, ON, **OPTIONS)
    with host([dog()]) as model:
        expected, _ = guided(model, ON | {"base_checkpoint": "None"}, **OPTIONS)
    assert p.extra_generation_params["PG mode"] == "PG"
    assert "PG base checkpoint" not in p.extra_generation_params
    assert len(p.comments) == 1
    assert "base checkpoint" in p.comments[0]
    assert re.search(pattern, p.comments[0])
    assert all(torch.equal(our, other) for our, other in zip(ours, expected, strict=True))


def test_a_value_that_is_not_finite_is_found_when_it_is_read(
    tmp_path: Path, base: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first values are read before the run, the rest within it, where they are needed."""
    monkeypatch.setattr(difference, "_FIRST", 1)
    name = "model.diffusion_model.norm.bias"
    base[name].view(-1)[-1] = torch.nan
    save_file(base, tmp_path / "base.safetensors")
    with host([]) as model:
        listed(tmp_path)
        expected = plain(model, **OPTIONS)
        ours, p = guided(model, ON, **OPTIONS)
        assert hooks(model) == 0
        assert all(torch.equal(our, other) for our, other in zip(ours[1:], expected[1:], strict=True))
    (comment,) = p.comments
    assert "stopped by a file: the picture is guided until then in step 1, and made with plain CFG" in comment
    assert "base: its model.diffusion_model.norm.bias holds values that are not finite" in comment
    assert all(bool(torch.isfinite(our).all()) for our in ours)
    assert "PG base checkpoint" not in p.extra_generation_params


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
