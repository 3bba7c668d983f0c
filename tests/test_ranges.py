"""Numbers as an X/Y/Z plot's users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_pg.ranges import RangeError, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ,", []),
        ("0, 0.25,0.5", [0, 0.25, 0.5]),
        (".5, 1e-1, +1", [0.5, 0.1, 1]),
        ("0.5, 0.1, 0.50", [0.5, 0.1]),
        ("0-1 (+0.25)", [0, 0.25, 0.5, 0.75, 1]),
        ("0-1(0.4)", [0, 0.4, 0.8]),
        ("1-0 (-0.5)", [1, 0.5, 0]),
        ("0-1", [0, 1]),
        ("1-0", [1, 0]),
        ("0-1 [5]", [0, 0.25, 0.5, 0.75, 1]),
        ("1 - 0 [ 3 ]", [1, 0.5, 0]),
        ("0.3-0.9 [1]", [0.3]),
        ("0-0.3 (+0.1)", [0, 0.1, 0.2, 0.3]),
        ("-1-1 [3]", [-1, 0, 1]),
        ("-0", [0]),
        ("0-1 (+0.5), 0.7, 1", [0, 0.5, 1, 0.7]),
    ],
)
def test_lists_ranges_and_counts(text: str, expected: list[float]) -> None:
    assert numbers(text, -1, 1, 10) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "'x', which cannot be read"),
        ("nan", "cannot be read"),
        ("inf", "cannot be read"),
        ("1e999", "cannot be read"),
        ("0-1e999 [3]", "cannot be read"),
        ("٣", "cannot be read"),
        ("0-1 (+0)", "leads nowhere"),
        ("0-1 (-0.5)", "leads nowhere"),
        ("0-1 [0]", "from 1 to 10 numbers"),
        ("0-1 [999999999]", "from 1 to 10 numbers"),
        ("0-1 (+1e-300)", "leads nowhere"),
        ("0-1 (+1e-9)", "from 1 to 10 numbers"),
        ("0-0.5 [6], 0.6-1 [6]", "from 1 to 10 numbers"),
        ("2", "between -1 and 1"),
        ("-1e308-1e308 [3]", "too far apart"),
        ("-1e308-1e308 [1]", "too far apart"),
        ("-1e308-1e308", "too far apart"),
        ("0" * 2001, "at most 2000"),
        (None, "must be a text"),
        ([0.5], "must be a text"),
    ],
)
def test_what_cannot_be_used_is_named(text: object, words: str) -> None:
    with pytest.raises(RangeError) as error:
        numbers(text, -1, 1, 10)
    assert words in str(error.value) and len(str(error.value)) < 250


def test_what_is_no_range_is_refused_at_once() -> None:
    """With two ways to read each digit this took hours."""
    run = "1" * 600
    with pytest.raises(RangeError, match="cannot be read"):
        numbers(f"{run}-{run}({run}x", 0, 1, 7)


@given(st.text(alphabet="0123456789.,-+()[] e", max_size=60))
def test_whatever_is_written_gives_allowed_numbers_or_is_refused(text: str) -> None:
    try:
        found = numbers(text, 0, 1, 7)
    except RangeError:
        return
    assert len(found) <= 7 and all(0 <= value <= 1 for value in found) and len(set(found)) == len(found)
