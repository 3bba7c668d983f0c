"""Personalization guidance as pure functions of tensors and numbers.

Source: Park, Choi, Park, Yun, "Steering Guidance for Personalized Text-to-Image Diffusion Models",
ICCV 2025 (arXiv 2508.00319). Autoguidance: Karras et al., "Guiding a Diffusion Model with a Bad Version
of Itself", NeurIPS 2024. Classifier-free guidance: Ho and Salimans, 2022.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # settings and command lines import this module and need no torch
    from torch import Tensor

Mode = Literal["PG", "AG", "CFG"]
WeakPrompt = Literal["Null", "Negative"]
Schedule = Literal["Constant", "Linear", "Cosine"]
Conditioning = Literal["null", "negative", "prompt"]


def guide(weak: Tensor, strong: Tensor, scale: float) -> Tensor:
    """Combine two predictions: D = D_w + s * (D_ft - D_w), the one formula of CFG, AG and PG.

    Args:
        weak: D_w(x | weak prompt), any shape; for CFG the unconditional prediction.
        strong: D_ft(x | prompt), same shape.
        scale: s, the host's CFG scale; 1 returns `strong`, 0 returns `weak`.
    """
    return weak + scale * (strong - weak)


def weak_conditioning(mode: Mode, weak_prompt: WeakPrompt) -> Conditioning:
    """Say what the weak rows read: the null prompt, the negative prompt or the prompt itself."""
    if mode == "AG":
        return "prompt"
    if mode == "PG" and weak_prompt == "Null":
        return "null"
    return "negative"


def weak_ratio_at(step: float, steps: int, schedule: Schedule, first: float, last: float) -> float:
    """Return omega at a sampling step.

    Args:
        step: 0 for the first step, `steps - 1` for the last; fractions lie between two steps, as the
            midpoints of second-order samplers do. Values beyond the ends are treated as the ends.
        steps: number of sampling steps, at least 1.
        schedule: Constant keeps `first`; Linear goes straight to `last`; Cosine goes there along half a
            cosine, slow at both ends.
        first: omega at the first step, in [0, 1].
        last: omega at the last step, in [0, 1]; not used by Constant.
    """
    if schedule == "Constant" or steps <= 1:
        return first
    progress = min(max(step / (steps - 1), 0.0), 1.0)
    if schedule == "Cosine":
        progress = (1.0 - math.cos(math.pi * progress)) / 2.0
    # Weighted ends, not a difference: the last step gets `last` to the bit.
    return (1.0 - progress) * first + progress * last


def is_inside(step: float, steps: int, start: float, end: float) -> bool:
    """Say whether a sampling step lies in [start, end), fractions of all steps; end = 1 has the last.

    Args:
        step: 0 for the first step; fractions lie between two steps. A sampler may take more steps than it was
            asked for (DPM adaptive): whatever is beyond the last step belongs to it.
        steps: number of sampling steps, at least 1.
        start: fraction in [0, 1] at which guidance begins.
        end: fraction in [0, 1] at which it ends; not more than `start` means never.
    """
    # 0.3 of 10 steps is 3 although 0.3 * 10 exceeds it by one bit.
    tolerance = 1e-6 * steps
    step = min(step, steps - 1) if step >= steps else step
    return start * steps - tolerance <= step < end * steps - tolerance


def holds_a_step(steps: int, start: float, end: float) -> bool:
    """Say whether any of the steps lies in [start, end), fractions of all steps as for `is_inside`."""
    return any(is_inside(step, steps, start, end) for step in range(steps))
