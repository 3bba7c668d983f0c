"""The text of an image: exact round trips where the layout allows them, a clear refusal where it does not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lib_pg.cli import png_text
from lib_pg.cli.png_text import Parameters, PngTextError, compose, parse

LIMIT = png_text.MAX_TEXT_BYTES
PAIRS = {"Steps": "20", "Sampler": "Euler a", "CFG scale": "7", "Seed": "1", "Size": "64x64", "PG mode": "PG"}
LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, PG mode: PG"

_encodable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
_pieces = st.lists(
    st.sampled_from(
        [
            "Negative prompt:",
            "Steps: 3",
            "ab: 1, cd: 2, ef: 3",
            "\n",
            "\r",
            " ",
            '"',
            ",",
            "\\",
            "dog",
            "\u00e4",
        ]
    ),
    max_size=8,
).map("".join)
_prompts = _pieces | _encodable
_keys = st.from_regex(r"\A[A-Za-z0-9][\w \-/]{0,10}[\w]\Z")
_pairs = st.dictionaries(_keys, _encodable | _pieces, min_size=3, max_size=6)


def test_layout() -> None:
    assert compose("a dog", "blurry", PAIRS) == f"a dog\nNegative prompt: blurry\n{LINE}"
    assert compose("a dog", "", PAIRS) == f"a dog\n{LINE}"
    assert compose("", "", PAIRS) == LINE
    assert compose("a dog", "", {}) == "a dog"
    assert compose("", "", {}) == ""


def test_values_are_quoted_where_they_need_it() -> None:
    values = {
        "Aa": "x, y",
        "Bb": "x: y",
        "Cc": "x\ny",
        "Dd": 'say "x"',
        "Ee": '"x"',
        "Ff": " x",
        "Gg": "",
        "Hh": "\u00e4,",
    }
    assert compose("", "", values) == (
        r'Aa: "x, y", Bb: "x: y", Cc: "x\ny", Dd: say "x", Ee: "\"x\"", Ff: " x", Gg: "", Hh: "' + '\u00e4,"'
    )


def test_text_of_a_webui() -> None:
    text = (
        "\nportrait of sks, <lora:dog:1>,\n  (best:1.2)\r\nNegative prompt: bad, (worse:1.3)\nblurry\n"
        'Steps: 20, Sampler: DPM++ 2M, Lora hashes: "dog: 1a2b, cat: 3c", Size: 512x768, Empty: , RNG: CPU\n'
    )
    found = parse(text)
    assert found.prompt == "\nportrait of sks, <lora:dog:1>,\n  (best:1.2)"
    assert found.negative == "bad, (worse:1.3)\nblurry"
    assert list(found.pairs) == ["Steps", "Sampler", "Lora hashes", "Size", "RNG"]
    assert list(found.pairs.values()) == ["20", "DPM++ 2M", "dog: 1a2b, cat: 3c", "512x768", "CPU"]


def test_fewer_than_three_pairs_are_prompt() -> None:
    assert parse("a dog\nSteps: 20, Seed: 1") == Parameters("a dog\nSteps: 20, Seed: 1")


def test_rubbish_between_pairs_is_ignored_and_the_last_of_equal_keys_counts() -> None:
    pairs = parse("(x) Steps: 20, rubbish, a: no, Seed: 1, Seed: 2, Size: 1x1").pairs
    assert pairs == {"Steps": "20", "Seed": "2", "Size": "1x1"}


@pytest.mark.parametrize("value", ['"half', '"a" b', r'"bad \x escape"', r'"\ud800"', '"'])
def test_value_that_is_no_quoted_text_stays_as_it_is(value: str) -> None:
    assert parse(f"Steps: 20, Seed: 1, Model: {value}").pairs["Model"] == value


@pytest.mark.parametrize(
    "prompt",
    [
        "two\nlines\n\nand a gap",
        "Steps: 3, Sampler: x, Seed: 4",
        "a dog\nSteps: 3, Sampler: x, Seed: 4",
        "see Negative prompt: cat",
        "say \"cheese\", 'x' and \\n",
        " outer space \t",
        "\n\nstarts and ends with gaps\n\n",
        "\u72ac \U0001f415 e\u0301 \u2028 \x85 \x1c",
    ],
)
def test_prompts_survive_on_both_sides(prompt: str) -> None:
    assert parse(compose(prompt, prompt, PAIRS)) == Parameters(prompt, prompt, PAIRS)


@pytest.mark.parametrize("prompt", ["Negative prompt: x", "a\n  Negative prompt: x", "a\r\nb", "a\r"])
def test_prompt_that_would_not_read_back_is_refused(prompt: str) -> None:
    with pytest.raises(PngTextError, match=r"^the prompt would not read back; "):
        compose(prompt, "", PAIRS)
    with pytest.raises(PngTextError, match=r"^the negative prompt would not read back; "):
        compose("a dog", f"x\n{prompt}", PAIRS)


@pytest.mark.parametrize(
    ("prompt", "negative", "pairs", "message"),
    [
        ("a", "", {"Steps": "1", "Seed": "2"}, "^2 parameters would read back as a part of the prompt; "),
        (
            "a\nSteps: 1, Seed: 2, Size: 3",
            "",
            {},
            "^the last line of the prompt would read back as parameters; ",
        ),
        (
            "a",
            "Steps: 1, Seed: 2, Size: 3",
            {},
            "^the last line of the prompt would read back as parameters; ",
        ),
        ("a ", "", {}, "^the prompt would not read back; "),
        ("a\0", "", PAIRS, "with a NUL or half of a surrogate pair; "),
        ("a", "\ud800", PAIRS, "with a NUL or half of a surrogate pair; "),
        ("a" * LIMIT, "", PAIRS, "over 1 MiB; "),
        ("\u72ac" * (LIMIT // 2), "", PAIRS, "over 1 MiB; "),
    ],
)
def test_other_refusals(prompt: str, negative: str, pairs: dict[str, str], message: str) -> None:
    with pytest.raises(PngTextError, match=message):
        compose(prompt, negative, pairs)


@pytest.mark.parametrize("key", ["", "x", " ab", "ab ", "a:b", "a,b", "a\nb", "-ab", "a.b"])
def test_bad_key_is_refused(key: str) -> None:
    with pytest.raises(PngTextError, match=r"^the parameter .* would not read back; "):
        compose("a", "", {**PAIRS, key: "1"})


@hypothesis_settings(deadline=None, max_examples=300)
@given(_prompts, _prompts, _pairs | st.just({}))
def test_composed_text_always_reads_back(prompt: str, negative: str, pairs: dict[str, str]) -> None:
    try:
        text = compose(prompt, negative, pairs)
    except PngTextError:
        lines = f"{prompt}\n{negative}".split("\n")
        hidden = any(line.lstrip().startswith("Negative prompt:") or line.endswith("\r") for line in lines)
        assert hidden or not pairs  # nothing else may be refused
    else:
        assert parse(text) == Parameters(prompt, negative, pairs)
        assert list(parse(text).pairs) == list(pairs)


@hypothesis_settings(deadline=None)
@given(st.text(max_size=200) | _pieces)
def test_any_text_can_be_taken_apart(text: str) -> None:
    assert set(parse(text).prompt) <= set(text)


@pytest.mark.parametrize("unit", ["a", " ", "-", "a ", "a:", 'aa: "', 'aa: "\\', 'aa:"x",', "\n", "aa:,"])
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    began = time.process_time()
    parse((unit * LIMIT)[: 1 << 16])
    assert time.process_time() - began < 1.0  # quadratic time would be over ten seconds
