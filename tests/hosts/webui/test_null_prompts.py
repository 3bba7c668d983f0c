"""Null prompts are encoded once for everything they depend on, and keep no model alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from lib_pg.hosts.webui.null_prompts import _KEPT, NullPrompts


class Model:
    """What a host's model is here: something that can be referred to weakly."""


@pytest.fixture
def encode() -> Callable[[], int]:
    """Encodes to 0, then 1, and so on: the number tells which call a prompt comes from."""
    numbers: Iterator[int] = count()
    return lambda: next(numbers)


def test_the_same_key_is_encoded_once(encode: Callable[[], int]) -> None:
    prompts, model = NullPrompts(), Model()
    assert [prompts.get(model, key, encode) for key in ("a", "b", "a", "b", "c")] == [0, 1, 0, 1, 2]


def test_a_key_is_compared_and_need_not_be_hashable(encode: Callable[[], int]) -> None:
    prompts, model = NullPrompts(), Model()
    keys = [([""], [0.7]), ([""], [0.7]), ([""], [0.8])]
    assert [prompts.get(model, key, encode) for key in keys] == [0, 0, 1]


def test_none_is_a_prompt_and_a_key_like_any_other() -> None:
    prompts, model, calls = NullPrompts(), Model(), []
    for _ in range(2):
        assert prompts.get(model, None, lambda: calls.append(1)) is None
    assert calls == [1]


def test_another_model_pushes_the_prompts_out(encode: Callable[[], int]) -> None:
    prompts, first, second = NullPrompts(), Model(), Model()
    assert [prompts.get(model, "a", encode) for model in (first, second, second, first)] == [0, 1, 1, 2]


def test_a_model_that_equals_another_is_another(encode: Callable[[], int]) -> None:
    class Equal(Model):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = object.__hash__

    prompts, first, second = NullPrompts(), Equal(), Equal()
    assert [prompts.get(model, "a", encode) for model in (first, second)] == [0, 1]


def test_the_oldest_prompts_are_forgotten(encode: Callable[[], int]) -> None:
    prompts, model = NullPrompts(), Model()
    for key in range(_KEPT + 1):
        prompts.get(model, key, encode)
    assert prompts.get(model, 1, encode) == 1
    assert prompts.get(model, 0, encode) == _KEPT + 1


def test_no_model_is_kept_alive_and_a_new_one_in_its_place_is_told_apart(encode: Callable[[], int]) -> None:
    prompts, model = NullPrompts(), Model()
    assert prompts.get(model, "a", encode) == 0
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert prompts.get(Model(), "a", encode) == 1


def test_a_prompt_that_could_not_be_encoded_is_tried_again(encode: Callable[[], int]) -> None:
    prompts, model = NullPrompts(), Model()

    def fail() -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        prompts.get(model, "a", fail)
    assert prompts.get(model, "a", encode) == 0
    assert prompts.get(model, "a", fail) == 0
