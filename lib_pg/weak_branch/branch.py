"""The weak branch: live modules whose weak rows see a network at a lower strength, without a weight written.

The rows of one batch share the personalised weights W_ft. On the weak rows alone each adapted layer adds

    y = W_ft x + (omega - 1) * strength * dW x

so that they see theta_w = theta_pre + omega * (theta_ft - theta_pre) (Park et al., ICCV 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lib_pg.deltas.base import ActiveNetwork, Delta

Span: TypeAlias = "tuple[int, int]"


class WeakBranch:
    """Attaches networks to live modules and corrects the weak rows of what these modules return.

    Use it as a context manager around a run, or call `attach` and `detach`. Rows and ratios may change
    before every call of the model; until they are set no row is weak. From the end of the run on the hooks
    do nothing, even one that a host has copied elsewhere.

    Args:
        networks: the networks that are in the modules' weights now, each at its strength.
        on_fault: gets an error of a hook, after which no hook does anything; without it, the call of the
            module raises.

    Raises:
        TypeError: a layer that is neither Linear nor Conv2d.
        ValueError: a layer whose weight has another shape than the delta, or a grouped convolution.
    """

    def __init__(
        self, networks: Sequence[ActiveNetwork], on_fault: Callable[[Exception], None] | None = None
    ) -> None:
        self.networks = tuple(networks)
        self._run = _Run(len(self.networks), on_fault)
        self._handles: list[RemovableHandle] = []
        self._deltas: dict[nn.Module, list[tuple[int, Delta]]] = {}
        for index, network in enumerate(self.networks):
            for module, delta in network.deltas.items():
                _check_layer(network.name, module, delta)
                self._deltas.setdefault(module, []).append((index, delta))

    def __enter__(self) -> WeakBranch:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def attach(self) -> None:
        """Put one hook on every adapted layer.

        Raises:
            RuntimeError: this branch or another one is attached to a layer already; nothing is attached then.
        """
        taken = [module for module in self._deltas if _is_hooked(module)]
        if taken:
            raise RuntimeError(
                f"a weak branch is attached already to {len(taken)} of {len(self._deltas)} layers; "
                "detach it before another one is attached"
            )
        self._run.live = True
        for module, deltas in self._deltas.items():
            hook = _LayerHook(self._run, deltas)
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def detach(self) -> None:
        """Take every hook away; calling it again changes nothing."""
        self._run.live = False
        while self._handles:
            self._handles.pop().remove()

    def set_rows(self, weak: Iterable[int], total: int) -> None:
        """Say which rows of the model's batch are weak.

        Args:
            weak: indices in [0, total), in any order; empty for none.
            total: rows the model is called with, at least 1. A layer that sees k times as many, because
                tiles were folded into the batch, has every row k times in a row.
        """
        rows = sorted(set(weak))
        if rows and not (rows[0] >= 0 and rows[-1] < total):
            raise ValueError(f"weak rows {rows} are out of range: expected indices in [0, {total})")
        self._run.spans = _spans(rows)
        self._run.total = total

    def set_ratios(self, ratios: float | Sequence[float]) -> None:
        """Set omega: one for all networks, or one for each in their order; 1 leaves a network as it is."""
        if isinstance(ratios, (int, float)):
            ratios = [float(ratios)] * len(self.networks)
        if len(ratios) != len(self.networks):
            raise ValueError(f"{len(ratios)} weak ratios given for {len(self.networks)} networks")
        self._run.factors = [
            (ratio - 1.0) * network.strength for ratio, network in zip(ratios, self.networks, strict=True)
        ]


class _Run:
    """What all hooks of one branch share; `live` is the token that makes them do anything."""

    def __init__(self, networks: int, on_fault: Callable[[Exception], None] | None) -> None:
        self.on_fault = on_fault
        self.live = False
        self.spans: list[Span] = []
        self.total = 1
        self.factors = [0.0] * networks


class GuidanceHook:
    """What a hook derives from that `detach_all` must find when a host broke off and left it behind."""

    # Known by an attribute: a host that reloads its scripts makes this class anew.
    is_personalization_guidance = True


class _LayerHook(GuidanceHook):
    """The forward hook of one layer."""

    def __init__(self, run: _Run, deltas: list[tuple[int, Delta]]) -> None:
        self._run = run
        self._originals = deltas
        self._deltas = deltas

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor
    ) -> None:
        run = self._run
        if not run.live or not run.spans:
            return
        try:
            self._correct(module, args[0] if args else kwargs["input"], output)
        except Exception as error:
            if run.on_fault is None:
                raise
            run.live = False
            run.on_fault(error)

    def _correct(self, module: nn.Module, x: Tensor, output: Tensor) -> None:
        run = self._run
        fold, rest = divmod(output.shape[0], run.total)
        if rest:
            raise RuntimeError(
                f"a {type(module).__name__} layer was called with {output.shape[0]} rows, which is no "
                f"multiple of the {run.total} rows of the model's batch; its weak rows cannot be told"
            )
        self._follow(output)
        for start, stop in run.spans:
            rows = slice(start * fold, stop * fold)
            weak_x = x[rows].to(output.dtype)  # another dtype only under autocast
            for network, delta in self._deltas:
                factor = run.factors[network]
                if factor:
                    delta.add_to(output[rows], weak_x, module, factor)

    def _follow(self, output: Tensor) -> None:
        """Keep the factors where the layer computes now: moved and cast once, not at every call."""
        if any(not delta.is_on(output.device, output.dtype) for _, delta in self._deltas):
            # From the originals: a detour through half precision must not cost precision for good.
            self._deltas = [
                (index, delta.to(output.device, output.dtype)) for index, delta in self._originals
            ]


def layer_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of a layer's weight, (out, in) or (out, in, kernel height, kernel width).

    None where it is neither linear nor a convolution of pictures. Hosts have linear layers of their own:
    their weights may be quantised (`quant_state` keeps the shape then) or not there yet.
    """
    if isinstance(module, nn.Conv2d):
        return (module.out_channels, module.in_channels, *module.kernel_size)
    out_features, in_features = (getattr(module, name, None) for name in ("out_features", "in_features"))
    if isinstance(out_features, int) and isinstance(in_features, int):
        return (out_features, in_features)
    weight = getattr(module, "weight", None)
    shape = tuple(getattr(getattr(weight, "quant_state", weight), "shape", ()))
    return shape if len(shape) == 2 and not isinstance(module, nn.Embedding) else None


def _check_layer(name: str, module: nn.Module, delta: Delta) -> None:
    expected = layer_shape(module)
    if expected is None:
        raise TypeError(
            f"network {name!r} adapts a {type(module).__name__}; only Linear and Conv2d can be weakened"
        )
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        raise ValueError(
            f"network {name!r} adapts a convolution of {module.groups} groups; only 1 can be weakened"
        )
    if delta.weight_shape != expected:
        raise ValueError(
            f"network {name!r} adapts a weight of shape {delta.weight_shape}, but the layer's is {expected}; "
            "the network seems to be made for another model"
        )


def detach_all(model: nn.Module) -> None:
    """Take away every hook of ours on a model, those of runs that broke off as well."""
    for module in model.modules():
        for hooks, with_kwargs in (
            (module._forward_hooks, module._forward_hooks_with_kwargs),
            (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        ):
            for key in [key for key, hook in hooks.items() if _is_ours(hook)]:
                del hooks[key]
                with_kwargs.pop(key, None)


def _is_ours(hook: object) -> bool:
    return getattr(hook, "is_personalization_guidance", False)


def _is_hooked(module: nn.Module) -> bool:
    return any(_is_ours(hook) for hook in module._forward_hooks.values())


def _spans(rows: Sequence[int]) -> list[Span]:
    """Join neighbours: [0, 1, 2, 5] becomes [(0, 3), (5, 6)], so that each span is one view."""
    spans: list[Span] = []
    for row in rows:
        if spans and spans[-1][1] == row:
            spans[-1] = (spans[-1][0], row + 1)
        else:
            spans.append((row, row + 1))
    return spans
