"""Settings: frozen names and defaults, round trips, and nothing but SettingsError for whatever comes in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lib_pg.guidance import is_inside
from lib_pg.settings import CONTROLS, DEFAULTS, Settings, SettingsError, check_switch
from tests.settings_strategies import CHOICES, valid_settings

# The published interface, written out: order, defaults, axis label.
PUBLISHED = [
    ("enabled", False, "Enabled"),
    ("mode", "PG", "Mode"),
    ("weak_ratio", 0.7, "Weak ratio"),
    ("weak_prompt", "Null", "Weak prompt"),
    ("schedule", "Constant", "Schedule"),
    ("weak_ratio_end", 0.7, "Weak ratio end"),
    ("start", 0.0, "Start"),
    ("end", 1.0, "End"),
    ("outside", "CFG", "Outside"),
    ("networks", "", "Networks"),
    ("hires", "Same", "Hires"),
    ("hires_weak_ratio", 0.7, "Hires weak ratio"),
    ("base_checkpoint", "None", "Base checkpoint"),
]
NUMBERS = ("weak_ratio", "weak_ratio_end", "start", "end", "hires_weak_ratio")

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(10**400),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=8,
)
_near = st.dictionaries(st.sampled_from(list(CONTROLS)) | st.text(max_size=12), _anything, max_size=4)


def test_order_defaults_and_labels_are_the_published_ones() -> None:
    assert [(name, DEFAULTS[name], CONTROLS[name].label) for name in CONTROLS] == PUBLISHED
    assert Settings().to_list() == [default for _, default, _ in PUBLISHED]
    assert [field.name for field in dataclasses.fields(Settings)] == [name for name, _, _ in PUBLISHED]


def test_controls_say_what_is_accepted() -> None:
    assert {name: control.choices for name, control in CONTROLS.items() if control.choices} == CHOICES
    for name, control in CONTROLS.items():
        assert control.help and "\n" not in control.help
        for choice in control.choices:
            assert getattr(Settings.from_dict({name: choice}), name) == choice
    assert tuple(name for name, control in CONTROLS.items() if control.kind == "number") == NUMBERS


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value", [-0.01, 1.01, math.nan, math.inf, -math.inf, 10**400, True, "0.5", None, [0.5]]
)
def test_bad_number_names_field_value_and_range(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: got .+, must be a number from 0 to 1; "):
        Settings(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_number_bounds_are_allowed(name: str) -> None:
    for value in (0, 1, 0.0, 1.0):
        held = getattr(Settings.from_dict({name: value}), name)
        assert (held, type(held)) == (value, float)


def test_negative_zero_becomes_zero() -> None:
    assert math.copysign(1.0, Settings(weak_ratio=-0.0).weak_ratio) == 1.0


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", None, [], {}])
def test_enabled_takes_only_true_and_false(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^enabled: got .+, must be true or false; "):
        Settings(enabled=value)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["", "Other", None, 0, True, ["PG"]])
def test_bad_choice_lists_the_choices(name: str, value: Any) -> None:
    with pytest.raises(
        SettingsError, match=rf"^{name}: got .+, must be one of '{CHOICES[name][0]}', "
    ) as caught:
        Settings(**{name: value})
    assert all(repr(choice) in str(caught.value) for choice in CHOICES[name])


@pytest.mark.parametrize(("value", "meant"), [("pg", "PG"), ("Cfg", "CFG")])
def test_choice_in_another_case_is_an_error_that_suggests_the_right_one(value: Any, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"got '{value}'.*did you mean '{meant}'"):
        Settings(mode=value)


@pytest.mark.parametrize(("name", "limit"), [("networks", 2000), ("base_checkpoint", 500)])
def test_text_length_is_limited(name: str, limit: int) -> None:
    assert getattr(Settings.from_dict({name: "x" * limit}), name) == "x" * limit
    with pytest.raises(
        SettingsError, match=f"{name}: got {limit + 1} characters, must be .* at most {limit} "
    ):
        Settings.from_dict({name: "x" * (limit + 1)})


@pytest.mark.parametrize("name", ["networks", "base_checkpoint"])
@pytest.mark.parametrize(
    "value", ["a\nb", "a\0b", "a\tb", "a\x7fb", "a\x9fb", "a\u2028b", "a\ud800b", 1, True, {"a": 1}]
)
def test_bad_text_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: got .+, must be a text .+; "):
        Settings.from_dict({name: value})


def test_networks_may_be_a_list_of_names() -> None:
    assert Settings.from_dict({"networks": ["dog", " my cat"]}) == Settings(networks="dog, my cat")
    assert Settings.from_args([{"networks": []}]) == Settings()


@pytest.mark.parametrize("names", [["dog", 1], [None], ["dog, cat"], [["dog"]]])
def test_a_list_of_other_things_is_refused(names: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"^networks: got a list with .*, must be a text or a list of names "
    ):
        Settings(networks=names)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([None], "enabled: got None, must be true or false; write one of these"),
        ([{"enabled": 1}], "enabled: got 1, must be true or false; write one of these"),
        ([{"enabled": "true"}], "enabled: got 'true', must be true or false; write it without quotes"),
        ([{"weak_ratio": None}], "weak_ratio: got None, must be a number from 0 to 1; write one such as 0.7"),
        ([{"weak_ratio": "0.5"}], "must be a number from 0 to 1; write it without quotes"),
        ([{"networks": None}], "networks: got None, must be a text of at most 2000 characters; leave it out"),
    ],
)
def test_the_advice_fits_the_value(args: list[Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_args(args)
    assert said in str(caught.value)


@pytest.mark.parametrize("args", [[], [{}], [{"enabled": False, "mode": "AG"}], [False, "AG"], None])
def test_args_that_leave_the_switch_off_on_purpose_are_no_mistake(args: Any) -> None:
    check_switch(args)


@pytest.mark.parametrize("rest", [[], Settings().to_list()[1:]])
def test_a_dict_without_the_switch_is_told_what_is_missing(rest: list[Any]) -> None:
    with pytest.raises(
        SettingsError, match=r"^enabled: missing beside 'weak_ratio', so nothing is done; add "
    ):
        check_switch([{"weak_ratio": 0.5}, *rest])


@pytest.mark.parametrize("value", [None, "", "  ", "None"])
def test_no_base_checkpoint_has_one_form(value: Any) -> None:
    assert Settings(base_checkpoint=value) == Settings()


def test_start_after_end_names_both() -> None:
    with pytest.raises(SettingsError, match=r"^start: got 0\.6, which is after end = 0\.5; "):
        Settings(start=0.6, end=0.5)


def test_start_equal_to_end_is_allowed_and_means_never() -> None:
    settings = Settings(start=0.5, end=0.5)
    assert not any(is_inside(step, 10, settings.start, settings.end) for step in range(10))


def test_network_names_are_stripped_and_never_empty() -> None:
    assert Settings(networks=" a b ,, c,\u00e4:1 , ").network_names == ("a b", "c", "\u00e4:1")
    assert Settings(networks=" , ").network_names == ()


def test_dict_may_miss_any_key() -> None:
    assert Settings.from_dict({}) == Settings()
    assert Settings.from_dict({"mode": "AG"}) == Settings(mode="AG")


@pytest.mark.parametrize(
    ("key", "meant"), [("weak_ration", "weak_ratio"), ("Weak ratio", "weak_ratio"), ("network", "networks")]
)
def test_unknown_key_names_the_closest(key: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"'{key}', which is unknown; did you mean '{meant}'"):
        Settings.from_dict({key: 0.5})


@pytest.mark.parametrize("key", ["zzzzzz", "", 1, None])
def test_unknown_key_that_is_close_to_none_lists_all(key: Any) -> None:
    with pytest.raises(SettingsError, match=r"unknown; choose from enabled, mode, .*, base_checkpoint$"):
        Settings.from_dict({key: 0.5})


def test_short_list_is_filled_and_long_list_names_the_count() -> None:
    assert Settings.from_list([]) == Settings()
    assert Settings.from_list((True, "AG")) == Settings(enabled=True, mode="AG")
    with pytest.raises(SettingsError, match="got 14 values, must be at most 13; "):
        Settings.from_list([*Settings().to_list(), 1])


def test_args_are_one_dict_or_the_list() -> None:
    expected = Settings(enabled=True, weak_ratio=0.25)
    assert Settings.from_args([{"enabled": True, "weak_ratio": 0.25}]) == expected
    assert Settings.from_args([True, "PG", 0.25]) == expected
    assert Settings.from_args([]) == Settings()


def test_what_a_host_fills_in_after_the_dict_is_ignored() -> None:
    page = Settings(mode="AG", weak_ratio=0.1).to_list()
    assert Settings.from_args([{"weak_ratio": 0.25}, *page[1:]]) == Settings(weak_ratio=0.25)


def test_non_default_has_just_what_differs() -> None:
    assert Settings().non_default() == {}
    assert Settings(mode="AG", weak_ratio=0.7, end=0.5).non_default() == {"mode": "AG", "end": 0.5}


def test_replace_is_checked_too() -> None:
    with pytest.raises(SettingsError, match="weak_ratio"):
        dataclasses.replace(Settings(), weak_ratio=2.0)


@hypothesis_settings(deadline=None)
@given(valid_settings(st.booleans()))
def test_round_trips(settings: Settings) -> None:
    assert Settings.from_dict(settings.to_dict()) == settings
    assert Settings.from_dict(settings.non_default()) == settings
    assert Settings.from_list(settings.to_list()) == settings
    assert Settings.from_args([settings.to_dict()]) == settings
    assert Settings.from_args(settings.to_list()) == settings


@pytest.mark.parametrize("make", [Settings.from_dict, Settings.from_list, Settings.from_args])
@hypothesis_settings(deadline=None)
@given(data=_anything | _near | st.lists(_anything, max_size=15) | _near.map(lambda values: [values]))
def test_nothing_but_settings_error_comes_out(make: Callable[[Any], Settings], data: Any) -> None:
    try:
        made = make(data)
    except SettingsError as error:
        assert len(str(error)) < 500
    else:
        assert Settings.from_dict(made.to_dict()) == made


def test_deeply_nested_value_has_a_short_message() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(SettingsError, match=r"^weak_ratio: got a value of type list, "):
        Settings.from_dict({"weak_ratio": nested})


def test_integer_too_long_to_print_has_a_short_message() -> None:
    with pytest.raises(SettingsError, match=r"^weak_ratio: got an integer of over 64 bits, "):
        Settings.from_dict({"weak_ratio": 10**5000})
