"""Any settings that are allowed, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lib_pg.settings import Settings

CHOICES = {
    "mode": ("PG", "AG", "CFG"),
    "weak_prompt": ("Null", "Negative"),
    "schedule": ("Constant", "Linear", "Cosine"),
    "outside": ("CFG", "None"),
    "hires": ("Same", "Off", "Own"),
}

_names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=80)
_fractions = st.floats(0.0, 1.0)


@st.composite
def valid_settings(draw: st.DrawFn, enabled: st.SearchStrategy[bool]) -> Settings:
    """Any settings that are allowed."""
    start, end = sorted((draw(_fractions), draw(_fractions)))
    choices: dict[str, Any] = {name: draw(st.sampled_from(values)) for name, values in CHOICES.items()}
    return Settings(
        enabled=draw(enabled),
        weak_ratio=draw(_fractions),
        weak_ratio_end=draw(_fractions),
        start=start,
        end=end,
        networks=draw(_names),
        hires_weak_ratio=draw(_fractions),
        base_checkpoint=draw(_names),
        **choices,
    )
