"""A thousand generations with faults on the contract hosts; afterwards all is as it was, to the bit.

A seed that fails is one line, which plays it again: python -m tests.faults --host a1111 --seed 123
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from lib_pg.weak_branch.hooks import GuidanceHook
from tests.faults import evidence, play
from tests.faults.extension import Extension
from tests.faults.scenario import FAULTS, HOSTS, Fault, Scenario, draw

RUNS = 500  # a host
SHARE = 50


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, Extension]]:
    with play.extensions() as extensions:
        yield extensions


@pytest.mark.parametrize("first", range(0, RUNS, SHARE))
@pytest.mark.parametrize("host", HOSTS)
def test_after_any_fault_all_is_as_it_was(host: str, first: int, loaded: dict[str, Extension]) -> None:
    failed = []
    for seed in range(first, first + SHARE):
        scenario = draw(host, seed)
        report = play.play(scenario, loaded[host])
        if report.complaints:
            failed.append(f"{scenario.line()}  # {report.fault}: {'; '.join(report.complaints)}")
    assert not failed, "\n".join(["", *failed])


@pytest.mark.parametrize("host", HOSTS)
def test_the_share_has_every_fault_and_most_of_them_come(host: str) -> None:
    drawn = [draw(host, seed) for seed in range(RUNS)]
    assert {scenario.fault.what for scenario in drawn} == set(FAULTS)
    assert {scenario.fault.error for scenario in drawn} > {"RuntimeError", "OutOfMemoryError"}
    assert draw(host, 7) == draw(host, 7), "a seed is a scenario"


def _simple(host: str, what: str, **fault: Any) -> Scenario:
    kind = "LoRA" if host == "a1111" else "lora"
    settings = {"enabled": True, "weak_ratio": 0.3}
    relative = "" if host == "a1111" else "Forge"
    return Scenario(0, host, settings, (("dog", kind, 0.8),), Fault(what, **fault), relative)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("wrong", ["a hook", "a weight", "a stride", "an option", "a function", "a cache"])
def test_the_harness_sees_what_is_left(
    host: str, wrong: str, loaded: dict[str, Extension], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would say if we left something behind."""

    def leave(webui: Any) -> None:
        module = next(m for m in next(iter(webui.models().values())).modules() if hasattr(m, "conv"))
        if wrong == "a hook":
            module.register_forward_hook(GuidanceHook())
        elif wrong == "a weight":
            module.conv.weight.view(-1)[0] += 1e-7
        elif wrong == "a stride":
            weight = module.conv.weight
            weight.data = weight.data.transpose(0, 1).contiguous().transpose(0, 1)
        elif wrong == "an option":
            webui.shared.opts.new = 1
        elif wrong == "a function":
            import modules.prompt_parser as parser

            monkeypatch.setattr(parser, "SdConditioning", lambda *given, **named: given)
        else:
            loaded[host].script.null_prompts.get = lambda model, key, encode: encode() * 0

    whole = play._Play._check_error
    monkeypatch.setattr(GuidanceHook, "__call__", lambda *given: None, raising=False)
    monkeypatch.setattr(
        play._Play, "_check_error", lambda self, *given: (leave(self.webui), whole(self, *given))
    )
    complaints = "; ".join(play.play(_simple(host, "none"), loaded[host]).complaints)
    expected = {
        "a hook": "left: GuidanceHook",
        "a weight": "weights at once: ",
        "a stride": "weights at once: ",
        "an option": "options: new",
        "a function": "functions of the host: modules.prompt_parser.SdConditioning",
        "a cache": "the next guided picture is another one",
    }
    assert expected[wrong] in complaints
    monkeypatch.undo()
    assert play.play(_simple(host, "none"), loaded[host]).complaints == []


def test_a_claim_of_what_did_not_run_is_seen(
    loaded: dict[str, Extension], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = play._Play._check_claims

    def claim(self: Any, result: Any, injection: Any, whole: Any, plain: Any) -> None:
        result.batches[0].infotext["PG mode"] = "PG"
        own(self, result, injection, whole, plain)

    monkeypatch.setattr(play._Play, "_check_claims", claim)
    report = play.play(_simple("a1111", "toggle"), loaded["a1111"])
    assert any("claims what did not run" in complaint for complaint in report.complaints)


def test_a_weight_is_hashed_as_it_lies() -> None:
    square = torch.eye(3)
    assert evidence.described(square)[0] == evidence.described(square.t())[0]
    assert evidence.described(torch.ones(2, 3)) != evidence.described(torch.ones(3, 2).t())
    assert evidence.described(torch.zeros(2)) != evidence.described(torch.zeros(2) * -1.0)
