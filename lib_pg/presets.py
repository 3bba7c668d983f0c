"""The presets that come with the extension, and what a user should know of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lib_pg.settings import Settings


def _constant(omega: float, **others: object) -> Settings:
    values = {"weak_ratio": omega, "weak_ratio_end": omega, "hires_weak_ratio": omega}
    return Settings.from_dict({**values, **others})


_EARLY = {"end": 0.5, "outside": "None"}

# In the order of the list. docs/evidence.md has the figures of those that were measured.
BUILT_IN: Mapping[str, Settings] = MappingProxyType(
    {
        "Balanced": Settings(),
        "Strong subject": _constant(0.4),
        "Gentle": _constant(0.85),
        # The weak branch is then the host's own unconditional branch: for comparisons.
        "CFG-equivalent": _constant(1.0, weak_prompt="Negative"),
        "Keep the prompt": _constant(1.0, weak_prompt="Negative", **_EARLY),
        "Keep the subject": _constant(0.5),
        "Half price": _constant(0.5, **_EARLY),
    }
)

ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "Keep the prompt": "With a LoRA or a base checkpoint: CFG in the first half of the steps, no "
        "guidance after it. Raise the CFG scale: where it was measured, its best was 1.4 to 2.9 times that "
        "of CFG throughout.",
        "Keep the subject": "PG in all steps. A LoRA that has learned its pictures' surroundings brings "
        "these along, too: raise the weak ratio then, or choose Keep the prompt.",
        "Half price": "PG in the first half of the steps, no guidance after it. Raise the CFG scale: where "
        "it was better than CFG throughout, its best was 2.9 times CFG's. It lost prompts with LoRAs that "
        "bring their pictures' surroundings along: choose Keep the prompt then.",
    }
)
