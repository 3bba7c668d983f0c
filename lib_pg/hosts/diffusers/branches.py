"""Which rows of the U-Net's batch are which branch: known by the pipeline's class and what its call has set.

A batch has one branch after the other, each with a row for every picture. What is not known is refused by
name, for a wrong row is worse than no guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

UNCONDITIONAL = "unconditional"
PROMPT = "prompt"
IMAGE = "image"  # InstructPix2Pix: the picture to be changed, without the prompt
PERTURBED = "perturbed"  # perturbed-attention guidance: the prompt, with attention taken away
BRANCHES = (UNCONDITIONAL, PROMPT, IMAGE, PERTURBED)
# Those that do not see the prompt. InstructPix2Pix combines u + s (p - i) + s_image (i - u): at s_image = 1
# that is CFG of p and i, so i is weak; and u with it, or s_image would push away from the subject.
WEAK = (UNCONDITIONAL, IMAGE)


@dataclass(frozen=True)
class Batch:
    """The rows that the U-Net is called with.

    Attributes:
        branches: in the order of the rows.
        total: rows of all of them, a multiple of their number.
    """

    branches: tuple[str, ...]
    total: int

    @property
    def weak_rows(self) -> tuple[int, ...]:
        """Rows of the weak branches; none where the prompt's are alone."""
        each = self.total // len(self.branches)
        return tuple(row for row in range(self.total) if self.branches[row // each] in WEAK)

    @property
    def can_shrink(self) -> bool:
        """Whether the weak branches may be left out: attention processors of PAG count on all of them."""
        return PERTURBED not in self.branches

    def of_prompt(self, rows: Tensor) -> Tensor:
        return rows.chunk(len(self.branches))[self.branches.index(PROMPT)]

    def with_weak(self, rows: Tensor, weak: Tensor) -> Tensor:
        """Return `rows` with each weak branch's replaced by `weak`, the rows of one branch."""
        parts = rows.chunk(len(self.branches))
        return torch.cat(
            [weak if name in WEAK else part for name, part in zip(self.branches, parts, strict=True)]
        )

    def each(self, value: Any, change: Callable[[Tensor], Tensor]) -> Any:
        """Return `value` with every tensor in it that has these rows changed.

        A video's text has a row for every frame: a multiple of the model's.
        """
        if isinstance(value, Tensor):
            return change(value) if value.ndim and len(value) and len(value) % self.total == 0 else value
        if isinstance(value, dict):
            return {key: self.each(item, change) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.each(item, change) for item in value)
        return value


Layout = Callable[[Any], tuple[str, ...]]


def _of_cfg(pipeline: Any) -> tuple[str, ...]:
    return (UNCONDITIONAL, PROMPT) if pipeline.do_classifier_free_guidance else (PROMPT,)


def _of_pag(pipeline: Any) -> tuple[str, ...]:
    return _of_cfg(pipeline) + ((PERTURBED,) if pipeline.do_perturbed_attention_guidance else ())


def _of_pix2pix(pipeline: Any) -> tuple[str, ...]:
    return (PROMPT, IMAGE, UNCONDITIONAL) if pipeline.do_classifier_free_guidance else (PROMPT,)


_SD, _XL = "StableDiffusion", "StableDiffusionXL"
_KINDS = {
    _SD: (
        *("", "Img2Img", "Inpaint", "Depth2Img", "Adapter"),
        *("ControlNet", "ControlNetImg2Img", "ControlNetInpaint"),
    ),
    _XL: (
        *("", "Img2Img", "Inpaint", "Adapter"),
        *("ControlNet", "ControlNetImg2Img", "ControlNetInpaint"),
        *("ControlNetUnion", "ControlNetUnionImg2Img", "ControlNetUnionInpaint"),
    ),
}
_KINDS_OF_PAG = {
    _SD: ("PAG", "PAGImg2Img", "PAGInpaint", "ControlNetPAG", "ControlNetPAGInpaint"),
    _XL: ("PAG", "PAGImg2Img", "PAGInpaint", "ControlNetPAG", "ControlNetPAGImg2Img"),
}
_KINDS_OF_VIDEO = ("", "SDXL", "ControlNet", "SparseControlNet", "VideoToVideo", "VideoToVideoControlNet")
_LAYOUTS: Mapping[str, Layout] = {
    **{f"{family}{kind}Pipeline": _of_cfg for family, kinds in _KINDS.items() for kind in kinds},
    **{f"{family}{kind}Pipeline": _of_pag for family, kinds in _KINDS_OF_PAG.items() for kind in kinds},
    **{f"AnimateDiff{kind}Pipeline": _of_cfg for kind in _KINDS_OF_VIDEO},
    "AnimateDiffPAGPipeline": _of_pag,
    "StableDiffusionInstructPix2PixPipeline": _of_pix2pix,
    "LatentConsistencyModelPipeline": _of_cfg,
    "LatentConsistencyModelImg2ImgPipeline": _of_cfg,
}


def layout_of(pipeline: Any, branches: Sequence[str] | None = None) -> Layout:
    """Return what tells a pipeline's branches, once its call has begun.

    Args:
        branches: those of a pipeline of one's own with CFG, in the order of the rows.

    Raises:
        RuntimeError: the pipeline's class, or how its U-Net is set to cut its rows, is not known.
        ValueError: `branches` are no branches.
    """
    _refuse_cut_rows(pipeline.unet)
    if branches is not None:
        given = _checked(branches)
        return lambda pipeline: given if _runs_cfg(pipeline) else (PROMPT,)
    # A class of one's own that leaves the call as it is has its parent's rows.
    caller = next(each for each in type(pipeline).__mro__ if "__call__" in vars(each))
    layout = _LAYOUTS.get(caller.__name__) if caller.__module__.startswith("diffusers.") else None
    if layout is None:
        raise RuntimeError(
            f"{type(pipeline).__name__} cannot be guided: it is not known which rows of its U-Net's batch "
            "are the unconditional ones; if you know, name its branches in order, such as "
            f"branches=({UNCONDITIONAL!r}, {PROMPT!r})"
        )
    if not hasattr(type(pipeline), "do_classifier_free_guidance"):
        raise RuntimeError(
            f"{caller.__name__} of this diffusers does not say whether it runs CFG; update diffusers"
        )
    return layout


def _runs_cfg(pipeline: Any) -> bool:
    return bool(getattr(pipeline, "do_classifier_free_guidance", True))


def _checked(branches: Sequence[str]) -> tuple[str, ...]:
    given = (branches,) if isinstance(branches, str) else tuple(branches)
    if set(given) - set(BRANCHES) or len(set(given)) < len(given) or PROMPT not in given:
        raise ValueError(
            f"branches are {', '.join(map(repr, given)) or 'none'}: expected {PROMPT!r} and any of "
            f"{', '.join(repr(name) for name in BRANCHES if name != PROMPT)}, each once"
        )
    return given


def _refuse_cut_rows(unet: nn.Module) -> None:
    """Raise RuntimeError where layers see a part of their rows at a time: which ones, they cannot know."""
    for module in unet.modules():
        if type(module).__name__ == "SplitInferenceModule":
            raise RuntimeError(
                "FreeNoise's split inference cuts the rows that layers see; do not enable it here"
            )
        if getattr(module, "_chunk_size", None) and getattr(module, "_chunk_dim", None) == 0:
            raise RuntimeError(
                "forward chunking over the batch cuts the rows that layers see; "
                "call unet.enable_forward_chunking(..., dim=1) or disable it"
            )
