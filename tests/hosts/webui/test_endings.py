"""What a WebUI's user is told may fail to arrive: no picture fails for it, and nothing stays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from lib_pg.hosts.a1111.sampling_pass import A1111Pass
from lib_pg.hosts.webui.console import say
from lib_pg.hosts.webui.notices import Notices
from lib_pg.run import GuidedRun
from lib_pg.weak_branch import WeakBranch
from tests.hosts.a1111.guided import ON, dog, guided, hooks, plain, start
from tests.hosts.a1111.stand_in import Processing, host, sample

OPTIONS: dict[str, Any] = {"prompts": ["a dog"], "pictures": 1}


class Console:
    """A console that cannot take everything."""

    def __init__(self, fails: Callable[[str], None]) -> None:
        self.fails, self.text = fails, ""

    def write(self, text: str) -> int:
        self.fails(text)
        self.text += text
        return len(text)


def is_closed(text: str) -> None:
    raise ValueError("I/O operation on closed file")


def test_a_console_without_a_name_s_letters_is_told_in_others(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(lambda text: text.encode("cp1252"))
    monkeypatch.setattr(sys, "stdout", console)
    say("no network 猫")
    monkeypatch.undo()
    assert console.text == "[Personalization Guidance] no network \\u732b\n"


def test_what_strangers_write_commands_no_terminal_and_can_be_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    p = Processing()
    Notices(p, lambda message: None).warn("no network \x1b[2J\ud800\nDone")
    assert capsys.readouterr().out == "[Personalization Guidance] no network ?[2J??Done\n"
    assert p.comments == ["Personalization Guidance: no network ?[2J??Done"]


@pytest.mark.parametrize("error", [ValueError("closed"), BrokenPipeError()], ids=repr)
def test_a_console_that_is_gone_costs_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_gone(text: str) -> None:
        raise error

    monkeypatch.setattr(sys, "stdout", Console(is_gone))
    say("no network")


def test_with_a_closed_console_the_picture_is_guided_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with host([dog()]) as model:
        expected, _ = guided(model, ON, **OPTIONS)
        monkeypatch.setattr(sys, "stdout", Console(is_closed))
        ours, p = guided(model, {**ON, "networks": "dog, cat"}, **OPTIONS)
        monkeypatch.undo()
    assert all(map(torch.equal, ours, expected))
    assert len(p.comments) == 1 and "'cat' is to be weakened but is not active" in p.comments[0]
    assert p.extra_generation_params["PG mode"] == "PG"


def test_a_page_that_cannot_be_told_is_said_on_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(message: str) -> None:
        raise LookupError("no page")

    with host([dog()]) as model:
        p = Processing()
        guidance = start(p, {**ON, "networks": "dog, cat"}, warn_on_page=fail)
        assert guidance is not None
        guidance.write_infotext()
        guidance.begin_pass(model)
        sample(p, model, lambda params: guidance.before_step(params, model), **OPTIONS)
        guidance.end_batch()
    assert "the page could not be told. LookupError('no page')" in capsys.readouterr().out
    assert p.extra_generation_params["PG mode"] == "PG"


@pytest.mark.parametrize(
    ("owner", "name"), [(GuidedRun, "_notes"), (WeakBranch, "left"), (GuidedRun, "pass_over")]
)
def test_a_fault_in_the_end_of_a_pass_is_told_and_leaves_the_finished_picture(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the sampler's loop is the host's own: an error there would cost it the picture."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    with host([dog()]) as model:
        expected, _ = guided(model, ON, **OPTIONS)
        monkeypatch.setattr(owner, name, property(fail) if name == "left" else fail)
        ours, p = guided(model, ON, **OPTIONS)
        assert hooks(model) == 0
    assert all(map(torch.equal, ours, expected))
    assert len(p.comments) == 1 and "the end of a pass had a fault of its own" in p.comments[0]
    assert p.extra_generation_params["PG mode"] == "PG", "it ran"


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=repr)
def test_an_end_that_breaks_off_at_once_is_made_up_for(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = A1111Pass.end, []

    def end(self: A1111Pass) -> None:
        calls.append(self)
        if len(calls) == 1:
            raise error
        whole(self)

    with host([dog()]) as model:
        guidance = start(Processing(), ON)
        assert guidance is not None
        guidance.begin_pass(model)
        monkeypatch.setattr(A1111Pass, "end", end)
        with nullcontext() if isinstance(error, Exception) else pytest.raises(KeyboardInterrupt):
            guidance.end_pass()
        assert hooks(model) == 0 and len(calls) == 2


def test_interrupted_before_any_guided_step_is_told_where_uncond_was_left_out() -> None:
    with host([dog()]) as model:
        p = Processing()
        guidance = start(p, ON | {"start": 0.5, "outside": "None"})
        assert guidance is not None
        guidance.write_infotext()
        guidance.begin_pass(model)

        def step(params: Any) -> None:
            guidance.before_step(params, model)
            if guidance._pass is not None and guidance._pass.watch.steps_done == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sample(p, model, step, **OPTIONS)
        guidance.end_batch()
    assert len(p.comments) == 1 and "no step was guided before the picture ended" in p.comments[0]
    assert p.extra_generation_params == {}


@pytest.mark.parametrize("name", ["_strong_of", "_with_weak"])
def test_a_fault_while_weak_rows_are_left_out_leaves_plain_cfg(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    with host([dog()]) as model:
        theirs = plain(model, **OPTIONS)
        monkeypatch.setattr(A1111Pass, name, fail)
        ours, p = guided(model, ON | {"start": 0.5, "outside": "None"}, **OPTIONS)
        assert hooks(model) == 0
    assert all(map(torch.equal, ours, theirs))
    assert len(p.comments) == 1 and "no memory" in p.comments[0]
    assert p.extra_generation_params == {}
