"""Settings in an image's parameters: what is written, what is read back, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lib_pg.cli.png_text import compose, parse
from lib_pg.infotext import from_infotext, to_infotext
from lib_pg.settings import CONTROLS, Settings, SettingsError
from tests.settings_strategies import valid_settings

KEYS = [
    "PG mode",
    "PG weak ratio",
    "PG weak prompt",
    "PG schedule",
    "PG weak ratio end",
    "PG start",
    "PG end",
    "PG outside",
    "PG networks",
    "PG hires",
    "PG hires weak ratio",
    "PG base checkpoint",
]
USUAL = {"Steps": "20", "Sampler": "Euler a", "Seed": "1"}

_key = st.sampled_from([*KEYS, "PG future"]) | st.text(max_size=12)
_hostile = (
    st.text(max_size=40)
    | st.sampled_from(["1", "0.5", "PG", "nan", "1_0", "9" * 5000])
    | st.none()
    | st.floats()
)


def test_keys_are_the_published_ones_in_their_order() -> None:
    assert [control.infotext_key for control in CONTROLS.values()] == [None, *KEYS]


def test_mode_and_weak_ratio_are_always_there_and_defaults_are_not() -> None:
    assert to_infotext(Settings(enabled=True)) == {"PG mode": "PG", "PG weak ratio": "0.7"}


def test_all_that_differs_is_there() -> None:
    settings = Settings(
        enabled=True,
        weak_ratio=1,
        weak_prompt="Negative",
        schedule="Cosine",
        weak_ratio_end=0,
        start=0.1,
        end=0.9,
        outside="None",
        networks="a, b",
        hires="Own",
        hires_weak_ratio=1e-05,
        base_checkpoint="v1-5.safetensors [6ce0161689]",
    )
    values = ["PG", "1", "Negative", "Cosine", "0", "0.1", "0.9", "None", "a, b", "Own", "1e-05"]
    assert list(to_infotext(settings).items()) == list(
        zip(KEYS, [*values, "v1-5.safetensors [6ce0161689]"], strict=True)
    )


@pytest.mark.parametrize(
    ("unread", "read"),
    [
        ({"hires_weak_ratio": 0.1}, {"hires": "Own"}),
        ({"hires_weak_ratio": 0.1, "hires": "Off"}, {"hires": "Own"}),
        ({"weak_ratio_end": 0.1}, {"schedule": "Linear"}),
        ({"outside": "None"}, {"start": 0.1}),
        ({"outside": "None"}, {"end": 0.9}),
        ({"weak_prompt": "Negative", "mode": "AG"}, {"mode": "PG"}),
        ({"base_checkpoint": "v1-5", "mode": "CFG"}, {"mode": "AG"}),
    ],
)
def test_what_nothing_read_is_not_claimed(unread: dict[str, Any], read: dict[str, Any]) -> None:
    (name, *_) = unread
    key = CONTROLS[name].infotext_key
    assert key not in to_infotext(Settings(enabled=True, **unread))
    assert key in to_infotext(Settings(enabled=True, **{**unread, **read}))


def test_switched_off_writes_nothing() -> None:
    assert to_infotext(Settings(mode="AG", networks="a")) == {}


@pytest.mark.parametrize("pairs", [{}, USUAL, {"PG future": "1", "PGmode": "PG", "pg mode": "PG"}])
def test_image_without_our_keys_means_off(pairs: dict[str, str]) -> None:
    assert from_infotext(pairs) is None


def test_missing_keys_have_defaults_and_future_ones_are_ignored() -> None:
    assert from_infotext({"PG weak ratio": " 0.50 ", "PG future": "x"}) == Settings(
        enabled=True, weak_ratio=0.5
    )


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "-1", "1.5", "1e999", "0x1", "1_0", "0,5", ".", "\u0661", "0." + "1" * 40, "0.5 0"],
)
def test_bad_number_names_key_or_field(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^infotext: (PG weak ratio|weak_ratio): got .+ from 0 to 1; "):
        from_infotext({"PG weak ratio": text})


@pytest.mark.parametrize("value", [None, 0.5, True, b"0.5", ["0.5"]])
def test_value_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^infotext: PG weak ratio: must be a text; "):
        from_infotext({"PG weak ratio": value})


@pytest.mark.parametrize(
    "pairs",
    [
        {"PG mode": "pg"},
        {"PG networks": "x" * 2001},
        {"PG base checkpoint": "a\nb"},
        {"PG start": "1", "PG end": "0"},
    ],
)
def test_other_bad_values_are_refused(pairs: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"^infotext: "):
        from_infotext(pairs)


@hypothesis_settings(deadline=None)
@given(valid_settings(st.just(True)))
def test_round_trip_plain_and_through_the_line_of_an_image(settings: Settings) -> None:
    pairs = to_infotext(settings)
    assert all(pairs.values())
    assert from_infotext(pairs) == settings.in_use()
    assert from_infotext(parse(compose("a dog", "", {**USUAL, **pairs})).pairs) == settings.in_use()
    assert to_infotext(settings.in_use()) == pairs


@hypothesis_settings(deadline=None)
@given(st.dictionaries(_key, _hostile, max_size=6) | st.lists(st.text()) | st.none() | st.text())
def test_nothing_but_settings_error_comes_out(pairs: Any) -> None:
    try:
        made = from_infotext(pairs)
    except SettingsError as error:
        assert len(str(error)) < 500
    else:
        assert made is None or made.enabled
