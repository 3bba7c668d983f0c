"""What the engines' Python costs: calls of tiny layers, where only overhead counts.

    python -m benchmarks.overhead --json benchmarks/results/overhead.json

One thread, tensors of a few kilobytes, batch 2 with one weak row. The arms take turns in one run and the
fastest of many rounds counts, as overhead does not vary and whatever else the machine does only adds to it:
a plain layer, the same with the engine and one or three networks, and the least that has to be done written
out by hand. The operations that torch is asked for are counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lib_pg.cli.output import replace_file
from lib_pg.deltas import ActiveNetwork, LowRank
from lib_pg.weak_branch import WeakBranch
from lib_pg.weak_branch.choice import Choice

_OMEGA = 0.7
_RANK = 4
_ARMS = (
    ("thin", "thin", 1),
    ("thin, 3 networks", "thin", 3),
    ("split", "split", 1),
    ("joined", "joined", 1),
)
_LAYERS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "Linear": lambda: (nn.Linear(16, 16), torch.randn(2, 4, 16)),
    "Linear without a bias": lambda: (nn.Linear(16, 16, bias=False), torch.randn(2, 4, 16)),
    "Conv2d": lambda: (nn.Conv2d(8, 8, 3, padding=1), torch.randn(2, 8, 4, 4)),
}


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(func).removeprefix("aten.").removesuffix(".default"))
        return func(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=300, help="calls of an arm a round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {name: measure(make, options.rounds, options.calls) for name, make in _LAYERS.items()}
    for layer, arms in found.items():
        print(f"{layer:24}{'us':>6}{'ratio':>7}  operations")
        for arm, each in arms.items():
            print(f"  {arm:22}{each['us']:6.1f}{each['ratio']:7.2f}  {', '.join(each['operations'])}")
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
        text = json.dumps({"machine": machine, "layers": found}, indent=1) + "\n"
        replace_file(options.json, text.encode())


@torch.inference_mode()
def measure(make: Callable[[], tuple[nn.Module, Tensor]], rounds: int, calls: int) -> dict[str, Any]:
    """Return by arm the fastest call in microseconds, its ratio to the plain layer's, and its operations."""
    with arms_of(make) as arms:
        operations = {name: _operations(call) for name, call in arms.items()}
        best = dict.fromkeys(arms, float("inf"))
        for _ in range(rounds):
            for name, call in arms.items():
                start = time.perf_counter()
                for _ in range(calls):
                    call()
                best[name] = min(best[name], (time.perf_counter() - start) / calls * 1e6)
    return {
        name: {"us": round(us, 2), "ratio": round(us / best["plain"], 3), "operations": operations[name]}
        for name, us in best.items()
    }


@contextmanager
def arms_of(make: Callable[[], tuple[nn.Module, Tensor]]) -> Iterator[dict[str, Callable[[], Tensor]]]:
    """Yield what is compared, by name; each arm has a layer of its own."""
    plain, x = make()
    by_hand, _ = make()
    arms: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: plain(x),
        "two products by hand": _by_hand(by_hand, x, _low_rank(by_hand)),
    }
    branches = []
    for name, engine, count in _ARMS:
        layer, _ = make()
        if engine == "joined" and not isinstance(layer, nn.Linear):
            continue
        networks = [ActiveNetwork(str(index), {layer: _low_rank(layer)}) for index in range(count)]
        choice = Choice("split" if engine == "split" else "thin", "")
        branch = WeakBranch(
            networks,
            choice=lambda _, __, choice=choice: choice,
            joins=(lambda layer, forward: True) if engine == "joined" else None,
        )
        branch.attach()
        branches.append(branch)
        branch.set_rows((1,), len(x))
        branch.set_ratios(_OMEGA)
        arms[name] = lambda layer=layer: layer(x)  # type: ignore[misc]
    try:
        yield arms
    finally:
        for branch in branches:
            branch.detach()


def _low_rank(layer: nn.Module) -> LowRank:
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    out, *inner = layer.weight.shape
    return LowRank(torch.randn(_RANK, *inner), torch.randn(out, _RANK))


def _by_hand(layer: nn.Module, x: Tensor, delta: LowRank) -> Callable[[], Tensor]:
    down, up = delta.down.t() if delta.down.ndim == 2 else delta.down, delta.up.t()

    def linear() -> Tensor:
        output = layer(x)
        weak, rows = x[1].view(-1, x.shape[-1]), output[1].view(-1, output.shape[-1])
        rows.addmm_(torch.mm(weak, down), up, alpha=_OMEGA - 1)
        return output

    def convolution() -> Tensor:
        output = layer(x)
        weak, rows = x[1:], output[1].view(output.shape[1], -1)
        thin = nn.functional.conv2d(weak, down, None, 1, 1)
        rows.addmm_(delta.up, thin.view(_RANK, -1), alpha=_OMEGA - 1)
        return output

    return linear if isinstance(layer, nn.Linear) else convolution


def _operations(call: Callable[[], Tensor]) -> list[str]:
    call()  # whatever is made once
    with _Counter() as counter:
        call()
    return counter.calls


if __name__ == "__main__":
    main()
