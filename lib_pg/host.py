"""What the core asks of a host, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from torch import nn

from lib_pg.deltas.base import Parameters
from lib_pg.networks import Network

Prompt_co = TypeVar("Prompt_co", covariant=True)


class Host(Protocol[Prompt_co]):
    """A program that samples with a personalised model.

    `Prompt_co` is the host's own form of an encoded prompt; the core only hands it back.
    """

    def networks(self) -> Sequence[Network]:
        """Return the networks that are in the weights now, with the live layers of the U-Net they adapt."""

    def weak_rows(self, total: int) -> Sequence[int]:
        """Return which of the `total` rows of the U-Net's batch are weak; none where the host runs no CFG."""

    def pristine(self, module: nn.Module) -> Parameters | None:
        """Return a layer's parameters without any network; None where the host does not know them."""

    def is_product(self, module: nn.Module, forward: Callable[..., Any]) -> bool:
        """Say whether a linear layer's forward comes to `F.linear` with its own weight and bias as they are.

        `forward` is the layer's without ours. What else it does, such as merging networks, `settle` does.
        """

    def unet(self) -> nn.Module | None:
        """Return the model whose calls are guided; None where none is loaded."""

    def strengths(self) -> Sequence[float] | None:
        """Return the multiplier that each of `networks()` has in the U-Net now, in that order.

        None where the host keeps them for a whole run.
        """

    def settle(self, module: nn.Module) -> None:
        """Bring a layer's own weights up to what `strengths` says; only called where that says something."""

    def null_prompt(self, ratios: Sequence[float]) -> Prompt_co:
        """Encode what the host uses for an empty negative prompt, each network at its omega.

        Args:
            ratios: omega in [0, 1] for each of `networks()`, in that order.
        """

    def warn(self, message: str) -> None:
        """Tell the user, where the user looks, once a run for the same message."""
