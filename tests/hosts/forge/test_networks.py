"""The networks of the Forge family, as deltas on live layers, against explicitly merged dense weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_pg.hosts.forge.merging import Originals
from lib_pg.hosts.forge.networks import active_networks
from lib_pg.networks import Network as Found
from lib_pg.weak_branch import WeakBranch
from tests.hosts.forge.network_files import Change, Network, Used, activate, host, lora, network_file
from tests.hosts.forge.sampling import COND, UNCOND, assert_close
from tests.hosts.forge.stand_in import WIDTH, Engine

KINDS = ["Forge", "reForge", "Forge Classic", "Forge Neo"]
BY_WEIGHT = ["reForge", "Forge Classic", "Forge Neo"]
CONV, POINT, QKV, OUT = (f"diffusion_model.{name}.weight" for name in ("conv", "point", "qkv", "out"))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def predict(engine: Engine) -> Tensor:
    """Two rows of the U-Net, the second of them uncond."""
    torch.manual_seed(1)
    x, text = torch.randn(2, WIDTH, 4, 4), torch.randn(2, 3, WIDTH)
    options = {"cond_or_uncond": [COND, UNCOND]}
    return engine.unet(x, torch.ones(2), context=text, transformer_options=options)


def weakened(engine: Engine, networks: Sequence[Found], ratios: Sequence[float]) -> Tensor:
    in_unet = [
        (n.parts["unet"], ratio) for n, ratio in zip(networks, ratios, strict=True) if "unet" in n.parts
    ]
    objects = engine.forge_objects
    pristine = Originals([objects.unet, objects.clip.patcher]).of
    with WeakBranch([part for part, _ in in_unet], pristine=pristine) as branch:
        branch.set_rows([1], 2)
        branch.set_ratios([ratio for _, ratio in in_unet])
        return predict(engine)


def assert_equals_merged(engine: Engine, used: Used, *ratios: float) -> list[str]:
    """Each network at its own ratio in the weak row equals weights that were merged so; return the notes."""
    networks, notes = active_networks(engine, {})
    assert [network.name for network in networks] == [network.name for network, _ in used]
    ours, strong = weakened(engine, networks, ratios), predict(engine)
    other = Engine(engine.kind)
    activate(other, used, ratios)
    merged = predict(other)
    assert_close(ours[0], strong[0])
    assert_close(ours[1], merged[1])
    assert not torch.allclose(strong[1], merged[1], rtol=1e-3)
    return notes


def changed(change: Change, **weights: Any) -> Change:
    """Return a LoRA with other factors."""
    values = dict(zip(("up", "down", "alpha", "core", "dora"), change.value[1], strict=True)) | weights
    return replace(change, value=("lora", tuple(values.values())))


def conv_with_core() -> Change:
    torch.manual_seed(3)
    factors = torch.randn(WIDTH, 2, 1, 1), torch.randn(2, WIDTH, 1, 1)
    return Change(CONV, ("lora", (*factors, 1.0, torch.randn(2, 2, 3, 3), None)))


def flat(change: Change) -> Change:
    up, down = change.value[1][:2]
    return changed(change, up=up.flatten(1), down=down.flatten(1))


def with_pixels(change: Change) -> Change:
    up, down = change.value[1][:2]
    return changed(change, up=up[:, :, None, None], down=down[:, :, None, None])


FORMS: dict[str, Callable[[], Change]] = {
    "linear": lambda: lora(OUT, (WIDTH, WIDTH), 1),
    "linear with factors of a convolution": lambda: with_pixels(lora(OUT, (WIDTH, WIDTH), 1)),
    "without alpha": lambda: changed(lora(OUT, (WIDTH, WIDTH), 1), alpha=None),
    "alpha in a tensor": lambda: changed(lora(OUT, (WIDTH, WIDTH), 1), alpha=torch.tensor(3.0)),
    "3x3": lambda: lora(CONV, (WIDTH, WIDTH, 3, 3), 1),
    "3x3 with factors of a linear layer": lambda: flat(lora(CONV, (WIDTH, WIDTH, 3, 3), 1)),
    "3x3 with a core": conv_with_core,
    "3x3 with a core, without alpha": lambda: changed(conv_with_core(), alpha=None),
    "1x1": lambda: lora(POINT, (WIDTH, WIDTH, 1, 1), 1),
    "1x1 with factors of a linear layer": lambda: flat(lora(POINT, (WIDTH, WIDTH, 1, 1), 1)),
    "rank 1": lambda: lora(OUT, (WIDTH, WIDTH), 1, rank=1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_lora_equals_merged_weights(kind: Any, form: str) -> None:
    used = [(Network("dog", unet_multiplier=0.8), [FORMS[form]()])]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, 0.3) == []


def halves_swapped(weight: Tensor) -> Tensor:
    """What hosts do to models that keep scale and shift the other way round."""
    first, second = weight.chunk(2)
    return torch.cat([second, first])


PARTS = {
    "rows": [lora(QKV, (WIDTH, WIDTH), 1, offset=(0, WIDTH, WIDTH))],
    "q, k and v": [lora(QKV, (WIDTH, WIDTH), i, offset=(0, i * WIDTH, WIDTH)) for i in range(3)],
    "columns": [lora(OUT, (WIDTH, 2), 1, offset=(1, 3, 2))],
    "rows and columns": [
        lora(QKV, (5, WIDTH), 1, offset=(0, 2, 5)),
        lora(QKV, (3 * WIDTH, 4), 2, offset=(1, 1, 4)),
    ],
    "a part and the whole": [
        lora(QKV, (3 * WIDTH, WIDTH), 1),
        lora(QKV, (WIDTH, WIDTH), 2, offset=(0, 0, WIDTH)),
    ],
    "swapped halves": [lora(OUT, (WIDTH, WIDTH), 1, function=halves_swapped)],
    "swapped halves of a part": [lora(QKV, (4, WIDTH), 1, offset=(0, 7, 4), function=halves_swapped)],
}


@pytest.mark.parametrize("kind", ["Forge", "reForge"])
@pytest.mark.parametrize("parts", PARTS)
def test_parts_of_a_fused_weight_equal_merged_weights(kind: Any, parts: str) -> None:
    used = [(Network("dog", unet_multiplier=0.8), PARTS[parts])]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, 0.3) == []


@pytest.mark.parametrize("kind", KINDS)
def test_two_files_have_strengths_and_ratios_of_their_own(kind: Any) -> None:
    used = [(Network("dog", 0.9, 0.8), network_file(10)), (Network("style", 0.4, -0.5), network_file(20))]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, 0.3, 0.6) == []
        networks, _ = active_networks(engine, {"style": 0.1})
    assert [network.own_ratio for network in networks] == [None, 0.1]
    assert [network.parts["te"].strength for network in networks] == [0.9, 0.4]


@pytest.mark.parametrize("kind", BY_WEIGHT)
def test_a_network_of_a_few_layers_is_known_by_its_file(kind: Any) -> None:
    """Where patches are kept by weight, their number on a layer does not tell whose they are."""
    files = network_file(10), network_file(20)[2:3], network_file(30)
    used = [(Network(name, 0.9, 0.6), file) for name, file in zip("abc", files, strict=True)]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, 0.2, 0.5, 0.8) == []
        networks, _ = active_networks(engine, {})
    assert [len(network.parts["unet"].deltas) for network in networks] == [4, 1, 4]
    assert ["te" in network.parts for network in networks] == [True, False, True]


@pytest.mark.parametrize("ratios", [(0.3, 0.3), (0.3, 1.0), (1.0, 0.3)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_file_twice_has_strengths_and_ratios_of_its_own(
    kind: Any, ratios: tuple[float, float]
) -> None:
    first, again = Network("dog", 0.9, 0.8), Network("again", 0.4, -0.5)
    again.network_on_disk = first.network_on_disk
    file = network_file(10)
    used = [(first, file), (again, file)]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, *ratios) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", [0.8, 0.3])
def test_a_network_that_is_named_again_is_what_the_host_has_of_it(kind: Any, again: float) -> None:
    """Forge keeps patches by file and strength, so that it has one of two mentions at the same strength."""
    first, second = Network("dog", 0.9, 0.8), Network("dog", 0.9, again)
    second.network_on_disk = first.network_on_disk
    file = network_file(10)[:4]
    with host([(first, file), (second, file)], kind) as engine:
        networks, notes = active_networks(engine, {"dog": 0.5})
    strengths = [0.8] if kind == "Forge" and again == 0.8 else [0.8, again]
    assert [network.strength for network in networks] == strengths
    assert notes == [] and all(network.own_ratio == 0.5 for network in networks)


@pytest.mark.parametrize("kind", KINDS)
def test_more_networks_than_the_host_keeps_files_of_are_all_weakened(kind: Any) -> None:
    files = [network_file(10 * seed)[seed == 2 :] for seed in range(6)]
    used = [(Network(name, 0.5, 0.4), file) for name, file in zip("abcdef", files, strict=True)]
    with host(used, kind) as engine:
        assert assert_equals_merged(engine, used, *[0.3] * 6) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_network_is_none(kind: Any) -> None:
    with host([], kind) as engine:
        assert active_networks(engine, {}) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_patches_of_other_extensions_are_ignored(kind: Any) -> None:
    network, file = Network("dog", 0.9, 0.8), network_file(10)
    other = (Network("other"), network_file(20)[1:3])
    with host([(network, file)], kind) as engine:
        activate(engine, [(network, file), other])
        networks, notes = active_networks(engine, {})
        ours = weakened(engine, networks, [0.3])
        lowered = Engine(kind)
        activate(lowered, [(replace(network, unet_multiplier=0.3 * 0.8), file), other])
        assert_close(ours[1], predict(lowered)[1])
    assert [found.name for found in networks] == ["dog"] and notes == []


def test_a_network_is_known_by_the_name_in_the_prompt_and_by_its_metadata() -> None:
    network = Network("file_name")
    network.mentioned_name = "alias"
    network.network_on_disk.metadata = {"ss_output_name": "x", "modelspec.usage_hint": "lcm", "n": 1}
    with host([(network, network_file(10))]) as engine:
        (found,), _ = active_networks(engine, {"alias": 0.4, "file_name": 0.9})
    assert (found.name, found.own_ratio) == ("alias", 0.4)
    assert found.metadata == {"ss_output_name": "x", "modelspec.usage_hint": "lcm"}


def test_without_the_lora_extension_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with host([]) as engine:
        monkeypatch.delitem(sys.modules, "networks")
        assert active_networks(engine, {}) == ([], [])
        monkeypatch.undo()


@pytest.mark.parametrize("relative", KINDS)
def test_a_network_that_the_host_has_left_out_is_named_with_what_keeps_it(relative: Any) -> None:
    """Some hosts leave out what has the strength 0, which a weak branch of its own would have."""
    with host([(Network("dog", 0.0, 0.0), [])], relative) as engine:
        (found,), notes = active_networks(engine, {})
    assert notes == [] and found.parts == {}
    assert found.reason.startswith("nothing of dog can be weakened here")
    assert "strength 0" in found.reason and "<lora:dog:0.001>" in found.reason
