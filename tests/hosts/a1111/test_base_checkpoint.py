"""A full fine-tune in AUTOMATIC1111, weakened towards a checkpoint of the host's list."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_pg.deltas.truncated import Truncated
from lib_pg.formats.checkpoint import Source
from lib_pg.hosts.webui.base_checkpoint import forget_base
from lib_pg.hosts.webui.checkpoints import listed_checkpoints
from lib_pg.hosts.webui.null_prompts import NullPrompts
from tests.hosts.a1111.based import ON, OPTIONS, between, listed, parameters
from tests.hosts.a1111.guided import OMEGA, dog, guided, hooks, plain, start
from tests.hosts.a1111.stand_in import Model, Processing, checkpoint, host, sample


@pytest.mark.parametrize("omega", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("title", ["base.safetensors", "base", "base.safetensors [0123456789]"])
def test_weak_rows_are_those_of_interpolated_weights(
    tmp_path: Path, base: dict[str, Tensor], omega: float, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with host([]) as model:
        listed(tmp_path)
        before = {name: value.clone() for name, value in parameters(model).items()}
        strong = plain(model, **OPTIONS)
        ours, p = guided(model, ON | {"base_checkpoint": title, "weak_ratio": omega}, **OPTIONS)
        low = between(model, base, omega)
        assert all(torch.equal(value, before[name]) for name, value in parameters(model).items())
        assert hooks(model) == 0
    assert p.comments == []
    assert p.extra_generation_params["PG base checkpoint"] == title
    assert "5 layers are others than in base, 0 are equal" in capsys.readouterr().out
    for our, own, other in zip(ours, strong, low, strict=True):
        torch.testing.assert_close(our[:2], own[:2], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(our[2:], other[2:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ratio", [None, "0.9"])
def test_a_network_on_top_keeps_its_own_ratio(
    tmp_path: Path, base: dict[str, Tensor], ratio: str | None
) -> None:
    with host([]) as model:
        own = {name: value.clone() for name, value in parameters(model).items()}
    omega = OMEGA if ratio is None else float(ratio)
    with host([dog()]) as model:
        listed(tmp_path)
        ours, p = guided(model, ON, ratios=ratio, **OPTIONS)
        strong = {name: value.clone() for name, value in parameters(model).items()}
    with host([]) as model:
        for name, value in parameters(model).items():
            # Everything is linear here: what the network adds is what the host has merged.
            value.copy_(base[name] + OMEGA * (own[name] - base[name]) + omega * (strong[name] - own[name]))
        low = plain(model, **(OPTIONS | {"negative": ""}))
    assert p.comments == []
    for our, other in zip(ours, low, strict=True):
        torch.testing.assert_close(our[2:], other[2:], rtol=1e-5, atol=1e-5)


def generate(model: Model, **settings: Any) -> list[Tensor]:
    predictions, p = guided(model, ON | settings, **OPTIONS)
    assert p.comments == []
    return predictions


def kept_base(model: Model) -> Any:
    kept = getattr(model, "personalization_guidance_base", None)
    return kept and kept.base


def test_weak_weights_outlive_a_generation_and_not_the_switch(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    with host([]) as model:
        listed(tmp_path)
        generate(model)
        first = kept_base(model)
        kept = [weights.nbytes for weights in first.kept.values()]
        assert sum(kept) == sum(value.nbytes for value in model.model.diffusion_model.parameters())
        generate(model)
        assert kept_base(model) is first
        model.sd_checkpoint_info = checkpoint("models/other.safetensors")
        generate(model)
        assert kept_base(model) is not first
        start(Processing(), ON | {"base_checkpoint": "None"}).begin_pass(model)
        assert kept_base(model) is None
        generate(model)
        forget_base(model)  # as the script does where the extension is off
        assert kept_base(model) is None


def test_nothing_is_read_again_while_the_networks_on_top_stay_as_they_are(
    tmp_path: Path, base: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Source] = []
    load = Source.load
    monkeypatch.setattr(Source, "load", lambda source: (read.append(source), load(source))[1])
    null_prompts = NullPrompts()
    with host([dog()]) as model:
        listed(tmp_path)
        first, _ = guided(model, ON, null_prompts=null_prompts, **OPTIONS)
        read.clear()
        again, _ = guided(model, ON, null_prompts=null_prompts, **OPTIONS)
        assert not read
        sys.modules["networks"].loaded_networks[0].unet_multiplier = 0.5
        other = generate(model)
        forget_base(model)
        anew = generate(model)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(other, anew, strict=True))
    assert not torch.equal(other[0], first[0])


@pytest.mark.parametrize("title", ["None", "other"])
def test_what_is_no_longer_used_holds_no_weights(tmp_path: Path, base: dict[str, Tensor], title: str) -> None:
    """An ended pass is part of a circle, and may stay in memory for a long time."""
    save_file({name: value + 0.2 for name, value in base.items()}, tmp_path / "other.safetensors")
    with host([]) as model:
        listed(tmp_path)
        generate(model)
        kept = list(kept_base(model).kept.values())
        assert sum(weights.nbytes for weights in kept)
        guided(model, ON | {"base_checkpoint": title}, **OPTIONS)
    assert sum(weights.nbytes for weights in kept) == 0


def test_low_rank_differences_end_with_their_base(tmp_path: Path, base: dict[str, Tensor]) -> None:
    def generate_at_low_rank() -> list[weakref.ref[Tensor]]:
        p = Processing()
        guidance = start(p, ON, rank=1)
        assert guidance is not None
        guidance.begin_pass(model)
        sample(p, model, lambda params: guidance.before_step(params, model), **OPTIONS)
        guidance.end_batch()
        deltas = kept_base(model).network.parts["unet"].deltas.values()
        return [weakref.ref(delta.weight.down) for delta in deltas if isinstance(delta, Truncated)]

    with host([]) as model:
        listed(tmp_path)
        factors = generate_at_low_rank()
        assert factors and all(factor() is not None for factor in factors)
        forget_base(model)
        assert all(factor() is None for factor in factors)


def test_two_tabs_may_have_two_bases(tmp_path: Path, base: dict[str, Tensor]) -> None:
    """A base that was chosen elsewhere in between is not taken for this one."""
    save_file({name: value + 0.2 for name, value in base.items()}, tmp_path / "other.safetensors")
    with host([]) as model:
        listed(tmp_path)
        first, other = generate(model), generate(model, base_checkpoint="other")
        again = generate(model)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.allclose(first[0], other[0], atol=1e-3)


def test_networks_may_come_after_the_comparison(tmp_path: Path, base: dict[str, Tensor]) -> None:
    """What a layer is without networks is asked anew in every generation."""
    with host([dog()]) as model:
        listed(tmp_path)
        loaded = sys.modules["networks"].loaded_networks
        networks = list(loaded)
        loaded.clear()
        generate(model)  # compares, without a network in the weights
        loaded[:] = networks
        again = generate(model)
        forget_base(model)
        anew = generate(model)  # compares with one
    for our, other in zip(again, anew, strict=True):
        torch.testing.assert_close(our, other, rtol=1e-5, atol=1e-6)


def test_a_generation_within_a_generation_leaves_the_outer_one_its_base(
    tmp_path: Path, base: dict[str, Tensor]
) -> None:
    settings = ON | {"schedule": "Linear", "weak_ratio_end": 0.9}  # weak weights are made at every step
    with host([]) as model:
        listed(tmp_path)
        expected, _ = guided(model, settings, **OPTIONS)
        p = Processing()
        guidance = start(p, settings)
        assert guidance is not None
        guidance.begin_pass(model)

        def step(params: Any) -> None:
            model.personalization_guidance_base.end_pass()  # what the end of another pass does
            guidance.before_step(params, model)

        ours = sample(p, model, step, **OPTIONS)
        guidance.end_batch()
    assert p.comments == []
    assert all(torch.equal(one, two) for one, two in zip(ours, expected, strict=True))


def test_less_memory_is_said(
    tmp_path: Path, base: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    with host([]) as model:
        listed(tmp_path)
        p = Processing()
        guidance = start(p, ON, rank=1)
        assert guidance is not None
        guidance.write_infotext()
        guidance.begin_pass(model)
        sample(p, model, lambda params: guidance.before_step(params, model), **OPTIONS)
        guidance.end_batch()
    assert p.comments == []
    assert p.extra_generation_params["PG weak memory"] == "1"
    assert "low rank keeps all but" in capsys.readouterr().out


def test_the_list_is_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").touch()
    (tmp_path / "A.safetensors").touch()
    with host([]):
        listed(tmp_path)
        assert listed_checkpoints() == ["A.safetensors", "b.safetensors"]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
