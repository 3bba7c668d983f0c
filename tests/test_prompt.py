"""Networks are read from a prompt as the hosts read them, whatever else is in it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.prompt import Own, PromptNetwork, parse_networks, split_tags

A = (PromptNetwork("a"),)
HOSTS_PATTERN = re.compile(r"<(\w+):([^>]+)>")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", ()),
        ("a cat", ()),
        ("a <lora:dog> b", (PromptNetwork("dog"),)),
        ("<lora:dog:0.8>", (PromptNetwork("dog", 0.8, 0.8),)),
        ("<lora:dog:0.8:0.5>", (PromptNetwork("dog", 0.8, 0.5),)),
        ("<lora:dog:0.8:0.5:16>", (PromptNetwork("dog", 0.8, 0.5, dyn="16"),)),
        ("<lora:dog:te=0.2:unet=-1>", (PromptNetwork("dog", 0.2, -1.0),)),
        ("<lora:dog:1:te=0.2>", (PromptNetwork("dog", 0.2, 0.2),)),
        ("<lora:dog:1:pg=0.3>", (PromptNetwork("dog", own=Own(0.3)),)),
        ("<lora:pg=1:dog>", (PromptNetwork("dog", own=Own(1.0)),)),
        ("<lora:dog:1:pg= 0 >", (PromptNetwork("dog", own=Own(0.0)),)),
        ("<lora:dog:1:weak=0.4>", (PromptNetwork("dog", own=Own(strength=0.4)),)),
        ("<lora:bad:0:weak=-2:pg=0.5>", (PromptNetwork("bad", 0.0, 0.0, Own(0.5, -2.0)),)),
        ("<lora:dog:1:PG=0.3>", (PromptNetwork("dog", own=Own(0.3)),)),
        ("<lora:dog:1: pg=0.3>", (PromptNetwork("dog", own=Own(0.3)),)),
        ("<lora:dog:1:Pg = 0.3 : WEAK =0.4>", (PromptNetwork("dog", own=Own(0.3, 0.4)),)),
        ("<lora:dog:1:TE=0.5: te=0.5>", (PromptNetwork("dog"),)),  # the hosts read neither
        (
            "<lora:a:0.5:pg=0.2><lora:b><lora:a:0.3:weak=1><lora:a:1:pg=0.4>",
            (
                PromptNetwork("a", 0.5, 0.5, Own(0.4, 1.0)),
                PromptNetwork("b"),
                PromptNetwork("a", 0.3, 0.3, Own(0.4, 1.0)),
                PromptNetwork("a", own=Own(0.4, 1.0)),
            ),
        ),
        ("<lyco:dog:1>", (PromptNetwork("dog"),)),
        ("<hypernet:dog:1> <LORA:dog:1> <lora:>", ()),
        ("<lora:a><lora:b:2>c<lora:a>", (*A, PromptNetwork("b", 2.0, 2.0), *A)),
        ("<lora:a<b:1>", (PromptNetwork("a<b"),)),
        ("<lora:my dog, big:1>", (PromptNetwork("my dog, big"),)),
    ],
)  # fmt: skip
def test_networks(prompt: str, expected: tuple[PromptNetwork, ...]) -> None:
    assert parse_networks(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a dog", "a dog"),
        ("a dog <lora:a:1> <lora:b:.8:pg=.3>", "a dog"),
        ("a dog  <lora:a:1>", "a dog "),
        ("<lora:a:1>, a dog", ", a dog"),
        ("a <lora:a:1> dog <lyco:b>", "a  dog"),
        ("a <lora:a:1> <lora:b:1>dog", "a  dog"),
        ("<lora:a><lora:b>", ""),
        ("a <lora:a:1> ", "a  "),
        ("a <lora:> <lora:a", "a <lora:> <lora:a"),
        ("", ""),
    ],
)
def test_what_is_drawn_is_what_is_left_of_a_prompt(prompt: str, text: str) -> None:
    assert split_tags(prompt) == (text, parse_networks(prompt), ())


def test_tags_of_other_kinds_are_cut_out_too() -> None:
    assert split_tags("a <hypernet:x:1><LORA:y:1>dog") == ("a dog", (), ("<hypernet:x:1>", "<LORA:y:1>"))


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "inf", "", "abc", "1e999", "0x1", "1_0", "9" * 400])
def test_a_bad_ratio_of_its_own_is_a_problem_and_not_used(value: str) -> None:
    (network,) = parse_networks(f"<lora:dog:0.8:pg={value}>")
    assert network.own == Own()
    assert network.unet_strength == 0.8
    assert "pg=" in network.problem and "0 to 1" in network.problem
    assert len(network.problem) < 300


@pytest.mark.parametrize("value", ["2.1", "-3", "nan", "", "abc", "1e999"])
def test_a_bad_strength_of_the_weak_branch_is_a_problem_and_not_used(value: str) -> None:
    (network,) = parse_networks(f"<lora:dog:0.8:weak={value}:pg=0.2>")
    assert network.own == Own(0.2)
    assert "weak=" in network.problem and "-2 to 2" in network.problem


@pytest.mark.parametrize("value", ["nan", "inf", "", "much", "1e999"])
def test_a_bad_strength_is_a_problem(value: str) -> None:
    (network,) = parse_networks(f"<lora:dog:{value}>")
    assert (network.te_strength, network.unet_strength) == (1.0, 1.0)
    assert "not a number" in network.problem


@pytest.mark.parametrize("argument", ["pg", "PG 0.3", "weak:0.4", "pg=0.3=1", "pg\uff1d0.3", "pg0.3"])
def test_ours_without_one_equals_sign_is_refused_with_what_the_host_does(argument: str) -> None:
    (network,) = parse_networks(f"<lora:dog:1:{argument}>")
    assert network.own == Own()
    assert "is a strength to the host, which then loads no network; write it as " in network.problem


def test_a_strength_that_only_begins_like_ours_is_no_problem_of_ours() -> None:
    (network,) = parse_networks("<lora:dog:page>")
    assert "'page' is not a number" in network.problem


def test_a_network_without_a_name_is_a_problem() -> None:
    (network,) = parse_networks("<lora:te=1>")
    assert network.name == "" and network.problem


@given(st.text(alphabet="<>lora:hyp=.01 pg,\n", max_size=80))
def test_tags_are_those_of_the_hosts(prompt: str) -> None:
    kinds = [kind for kind, _ in HOSTS_PATTERN.findall(prompt)]
    assert len(parse_networks(prompt)) == kinds.count("lora") + kinds.count("lyco")


@given(st.text(max_size=200))
def test_any_text_is_read(prompt: str) -> None:
    parse_networks(prompt + f"<lora:{prompt}>")


@pytest.mark.parametrize("piece", ["<lora:", "<", "<lora:a:1", "<lora:>", "<a", "<lora:x>", ":", ">"])
def test_long_prompts_take_time_in_proportion(piece: str) -> None:
    started = time.process_time()
    parse_networks(piece * 200_000)
    assert time.process_time() - started < 10  # quadratic time would be minutes
