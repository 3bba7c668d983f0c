"""Attentions that another extension calls part by part: which rows of the batch each layer then has."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn

from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.deltas.ia3 import IA3
from lib_pg.deltas.merge import merged
from lib_pg.weak_branch import WeakBranch
from tests.pipelines import relative_error
from tests.weak_branch.layers import OMEGA, STRENGTH, branch_of

WIDTH, TEXT, TOKENS = 12, 8, 6
Forward: TypeAlias = "Callable[[Attention, Tensor, Tensor], Tensor]"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.to_k = nn.Linear(TEXT, WIDTH, bias=False)
        self.to_v = nn.Linear(TEXT, WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Identity())

    def part(self, x: Tensor, text: Tensor) -> Tensor:
        return self.attend(self.to_q(x), text)

    def attend(self, q: Tensor, text: Tensor) -> Tensor:
        scores = torch.einsum("bid,bjd->bij", q, self.to_k(text)).softmax(-1)
        return self.to_out(scores @ self.to_v(text))


class Model(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = Attention(), Attention()
        self._forward_of = [forward]

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        x = x + self._forward_of[0](self.first, x, text)
        return x + self._forward_of[0](self.second, x, text)


def halves(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
    """Each half with tokens of its own behind its text."""
    parts = zip(x.chunk(2), text.chunk(2), (0.5, 2.0), strict=True)
    return torch.cat([attention.part(a, torch.cat([b, b[:, :2] * more], 1)) for a, b, more in parts])


def regions(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
    """The prompts' half once for every region of it, the other half once; a copy is cut."""
    (one, other), (prompts, negative) = x.chunk(2), text.clone().chunk(2)
    first, second = attention.part(one, prompts[:, :3]), attention.part(one, prompts[:, 3:])
    return torch.cat([first * 0.25 + second * 0.75, attention.part(other, negative[:, :3])])


def layer_by_layer(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
    """All queries before anything else, so that the last one does not tell what comes next."""
    queries = [attention.to_q(part) for part in x.chunk(2)]
    return torch.cat([attention.attend(*each) for each in zip(queries, text.chunk(2), strict=True)])


def row_by_row_backwards(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
    parts = [attention.part(x[row : row + 1], text[row : row + 1]) for row in reversed(range(len(x)))]
    return torch.cat(parts[::-1])


def folded(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
    """Tiles folded into the batch before it is cut, so that the cut has no multiple of its rows."""
    tiles = x.reshape(len(x) * 3, -1, WIDTH)
    texts = text.repeat_interleave(3, 0)
    parts = [attention.part(tiles[a : a + 1], texts[a : a + 1]) for a in range(len(tiles))]
    return torch.cat(parts).reshape(x.shape)


FORWARDS = [halves, regions, layer_by_layer, row_by_row_backwards, folded]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def inputs(pictures: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(pictures)
    return torch.randn(2 * pictures, 9, WIDTH), torch.randn(2 * pictures, TOKENS, TEXT)


def network(model: Model, layers: str = "", kind: str = "LoRA") -> ActiveNetwork:
    deltas: dict[nn.Module, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and layers in name:
            out, width = module.weight.shape
            low_rank = LowRank(torch.randn(2, width) * 0.4, torch.randn(out, 2) * 0.4)
            deltas[module] = low_rank if kind == "LoRA" else IA3(torch.randn(width) * 0.3, by_input=True)
    return ActiveNetwork("dog", deltas, STRENGTH)


def expected(model: Model, net: ActiveNetwork, x: Tensor, text: Tensor, weak: list[int]) -> Tensor:
    """Return what two whole models give, one of them with the network at omega."""
    with merged([net]):
        output = copy.deepcopy(model)(x, text)
    with merged([net], OMEGA):
        output[weak] = copy.deepcopy(model)(x, text)[weak]
    return output


def run(branch: WeakBranch, model: Model, x: Tensor, text: Tensor, weak: list[int], told: bool) -> Tensor:
    with branch:
        branch.set_ratios(OMEGA)
        branch.set_rows(weak, len(x), text if told else None)
        model(x, text)  # what was known of an earlier call tells nothing of the next one
        branch.set_rows(weak, len(x), text if told else None)
        return model(x, text)


def check_weak_rows(model: Model, pictures: int, first: bool, case: str) -> None:
    """Hold a guided call against merged weights, though nothing is told of what rows read."""
    x, text = inputs(pictures)
    weak = list(range(pictures)) if first else list(range(pictures, 2 * pictures))
    net = network(model, kind="(IA)3" if case == "two-sided" else "LoRA")
    right = expected(model, net, x, text, weak)
    with merged([net]):
        branch = branch_of([net], "split" if case == "split" else "thin", model=model)
        output = run(branch, model, x, text, weak, told=False)
    assert relative_error(output, right) < 1e-6
    assert branch.left == []


@pytest.mark.parametrize("forward", FORWARDS)
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("first", [True, False], ids=["weak rows first", "weak rows last"])
@pytest.mark.parametrize("case", ["thin", "split", "two-sided"])
def test_each_part_has_its_own_rows_weak(forward: Forward, pictures: int, first: bool, case: str) -> None:
    model = Model(forward)
    check_weak_rows(model, pictures, first, case)


@pytest.mark.parametrize("layers", ["to_k", "to_v"])
def test_layers_that_read_the_text_are_told_by_it_alone(layers: str) -> None:
    model, (x, text) = Model(halves), inputs(2)
    net = network(model, layers)
    right = expected(model, net, x, text, [0, 1])
    with merged([net]):
        branch = branch_of([net], model=model)
        output = run(branch, model, x, text, [0, 1], told=True)
    assert relative_error(output, right) < 1e-6
    assert branch.left == []


@pytest.mark.parametrize("engine", ["thin", "split"])
@pytest.mark.parametrize(("layers", "same_text"), [("to_out", False), ("to_k", True)])
def test_what_cannot_be_told_keeps_its_strength_and_is_named(
    layers: str, same_text: bool, engine: str
) -> None:
    model, (x, text) = Model(halves), inputs(1)
    if same_text:
        text = text[:1].repeat(2, 1, 1)
    net = network(model, layers)
    with merged([net]):
        plain = model(x, text)
        branch = branch_of([net], engine, model=model)
        output = run(branch, model, x, text, [1], told=True)
    assert torch.equal(output, plain)
    assert branch.left == list(net.deltas)


def test_an_attention_that_knows_two_orders_is_left_as_it_is() -> None:
    """Two layers whose calls came in different orders: the third one's order is either's."""

    def at_odds(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
        for part in text.chunk(2):
            attention.to_k(part)
        queries = [attention.to_q(part) for part in x.chunk(2)[::-1]]
        return torch.cat([attention.to_out(query + 0.0) for query in queries])

    model, (x, text) = Model(at_odds), inputs(1)
    net = network(model)
    with merged([net]):
        branch = branch_of([net], model=model)
        run(branch, model, x, text, [1], told=False)
    assert branch.left == [model.first.to_out[0], model.second.to_out[0]]


def once_more(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
    """All rows, and then some of them again as copies, as ControlNet's reference does in AUTOMATIC1111."""
    output, again = attention.part(x, text).clone(), list(range(len(x) // 2, len(x)))
    output[again] = 0.5 * output[again] + 0.5 * attention.part(x[again] + 0.0, text[again])
    return output


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("first", [True, False], ids=["weak rows first", "weak rows last"])
@pytest.mark.parametrize("case", ["thin", "split", "two-sided"])
def test_copies_of_rows_that_were_there_before_are_known(pictures: int, first: bool, case: str) -> None:
    model = Model(once_more)
    vars(model.first)["_forward"] = once_more  # what an extension leaves there
    check_weak_rows(model, pictures, first, case)


@pytest.mark.parametrize("tokens", [(0, 9), (9, 0), (0, 0)])
def test_calls_with_no_token_at_all_are_no_fault(tokens: tuple[int, int]) -> None:
    """Of all rows, and then of some, as Regional Prompter makes beside a ControlNet."""
    whole, part = tokens

    def empty(attention: Attention, x: Tensor, text: Tensor) -> Tensor:
        attention.to_q(x[:, :whole])
        attention.to_q(x[[0], :part] + 0.0)
        return x

    model, (x, text) = Model(empty), inputs(1)
    vars(model.first)["_forward"] = empty
    net = network(model, "first.to_q")
    with merged([net]):
        branch = branch_of([net], model=model)
        output = run(branch, model, x, text, [1], told=False)
    assert torch.equal(output, model(x, text))


def test_copies_that_both_branches_have_are_left_as_they_are() -> None:
    model, (x, text) = Model(once_more), inputs(1)
    vars(model.first)["_forward"] = once_more  # what an extension leaves there
    net = network(model, "first.to_q")
    with merged([net]):
        branch = branch_of([net], model=model)
        run(branch, model, x[:1].repeat(2, 1, 1), text, [1], told=False)
    assert branch.left == [model.first.to_q]


def test_nothing_is_kept_of_calls_where_nobody_cuts_the_batch() -> None:
    model, (x, text) = Model(once_more), inputs(1)
    net = network(model, "first.to_q")
    with merged([net]):
        branch = branch_of([net], model=model)
        run(branch, model, x, text, [1], told=False)
    assert branch.left == [model.first.to_q]
