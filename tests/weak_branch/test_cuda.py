"""The weak branch on a CUDA device: the same equivalences as on a CPU, and no waiting for the device.

Models are small stacks of torch's own layers. The errors are printed: run it with `-rP` to see them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from benchmarks.networks import KINDS, random_network
from lib_pg.deltas import ActiveNetwork, Delta
from lib_pg.deltas.merge import add_networks, merged
from lib_pg.weak_branch import WeakBranch, joined
from lib_pg.weak_branch.choice import Choice, choose

DEVICE = "cuda"
OMEGA = 0.3
WIDTH = 256
WEAK = [0, 2]
STRONG = [1, 3]
HALVES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    """No TF32: products of float32 are as exact as the type."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    with torch.no_grad():
        yield
    for backend, value in zip(backends, before, strict=True):
        backend.allow_tf32 = value


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.LayerNorm(WIDTH)
        self.attn = nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm((x + self.conv(x)).flatten(2).transpose(1, 2))
        tokens = tokens + self.out(nn.functional.gelu(self.attn(tokens)))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList([Block() for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.transformer_blocks:
            x = block(x)
        return x


def model(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor]:
    """Return a model and what it reads: weak rows and strong ones in turns, two of each."""
    torch.manual_seed(0)
    made = Model().to(DEVICE, dtype).requires_grad_(False)
    return made, torch.randn(4, WIDTH, 8, 8).to(DEVICE, dtype)


def network(of: nn.Module, kind: str = "LoRA", layers: str = "blocks", rank: int = 8) -> ActiveNetwork:
    return random_network(of, kind, rank, layers).parts["unet"]


def split(module: nn.Module, deltas: object) -> Choice:
    return Choice("split", "a test")


def interpolated(of: nn.Module, part: ActiveNetwork, omega: float) -> nn.Module:
    """Return a copy of a model with theta_pre + omega (theta_ft - theta_pre) in its weights."""
    names = {module: name for name, module in of.named_modules()}
    other = copy.deepcopy(of)
    there = {other.get_submodule(names[module]): delta for module, delta in part.deltas.items()}
    add_networks([ActiveNetwork(part.name, there, part.strength)], omega)
    return other


def guided(of: nn.Module, branch: WeakBranch, x: Tensor, omega: float = OMEGA) -> Tensor:
    branch.set_ratios(omega)
    branch.set_rows(WEAK, len(x))
    with branch:
        return of(x)


def joins(module: nn.Module, forward: object) -> bool:
    return isinstance(module, nn.Linear)


def halved(of: nn.Module, branch: WeakBranch, x: Tensor) -> Tensor:
    """Return what `guided` does with weak rows first, as hosts have them."""
    order = [*WEAK, *STRONG]
    sorted_x = torch.cat([x[row : row + 1] for row in order])  # an index in a list would wait
    branch.set_ratios(OMEGA)
    branch.set_rows(range(len(WEAK)), len(x))
    with branch:
        found = of(sorted_x)
    return torch.cat([found[order.index(row)].unsqueeze(0) for row in range(len(x))])


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value.double() - reference.double()).norm() / reference.double().norm())


@pytest.mark.parametrize("engine", [choose, split], ids=["chosen", "split"])
@pytest.mark.parametrize("kind", KINDS)
def test_weak_rows_equal_interpolated_weights(kind: str, engine: object) -> None:
    net, x = model()
    part = network(net, kind, "all" if kind == "LoRA" else "blocks")
    weak = interpolated(net, part, OMEGA)(x)
    with merged([part]):
        plain = net(x)
        branch = WeakBranch([part], choice=engine)  # type: ignore[arg-type]
        found = guided(net, branch, x)
    error = relative_error(found[WEAK], weak[WEAK])
    print(f"{kind}, {branch.describe()}: weak rows {error:.1e} from interpolated weights")
    assert error < 1e-5
    assert relative_error(found[STRONG], plain[STRONG]) < 1e-5
    assert relative_error(plain[WEAK], weak[WEAK]) > 1e-3, "the network changes too little to tell"


@HALVES
def test_in_half_precision_as_near_as_rounded_weights(dtype: torch.dtype) -> None:
    """The exact weak rows are those of float64; interpolated weights in half precision miss them, too."""
    net, x = model(dtype)
    part = network(net)
    exact = interpolated(net, part, 0.0).double()
    wide = {
        exact.get_submodule(name): part.deltas[module]
        for name, module in net.named_modules()
        if module in part.deltas
    }
    for module, delta in wide.items():
        module.weight += OMEGA * delta.contribution({}, 1.0)["weight"].double()
    reference = exact(x.double())
    rounded = interpolated(net, part, OMEGA)(x)
    with merged([part]):
        found = guided(net, WeakBranch([part]), x)
    own, theirs = (relative_error(each[WEAK], reference[WEAK]) for each in (found, rounded))
    print(f"{dtype}: {own:.1e} from float64, interpolated weights {theirs:.1e}")
    assert own < 2 * theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("engine", [choose, split], ids=["chosen", "split"])
def test_omega_1_is_cfg_bit_for_bit(dtype: torch.dtype, engine: object) -> None:
    net, x = model(dtype)
    part = network(net, layers="all")
    with merged([part]):
        plain = net(x)
        branch = WeakBranch([part], choice=engine)  # type: ignore[arg-type]
        found = guided(net, branch, x, omega=1.0)
    print(f"{dtype}, {branch.describe()}: omega 1 equals CFG: {torch.equal(found, plain)}")
    assert torch.equal(found, plain)


def test_weights_are_the_same_bits_afterwards_and_no_hook_is_left() -> None:
    net, x = model(torch.float16)
    before = [value.clone() for value in net.state_dict().values()]
    plain = net(x)
    for kind in KINDS:
        part = network(net, kind)
        with merged([part]):
            guided(net, WeakBranch([part]), x)
    assert all(torch.equal(one, two) for one, two in zip(before, net.state_dict().values(), strict=True))
    assert torch.equal(net(x), plain)
    assert not any(m._forward_hooks or "forward" in vars(m) for m in net.modules())


def test_a_network_that_waits_in_memory_follows_to_the_device() -> None:
    net, x = model()
    part = network(net, layers="all")
    on_cpu: dict[nn.Module, Delta] = {
        module: delta.on(torch.device("cpu")) for module, delta in part.deltas.items()
    }
    with merged([part]):
        first = guided(net, WeakBranch([part]), x)
        second = guided(net, WeakBranch([ActiveNetwork("LoRA", on_cpu)]), x)
    assert torch.equal(first, second)


@pytest.mark.parametrize("engine", [choose, split], ids=["chosen", "split"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_but_the_first_waits_for_the_device(kind: str, engine: object) -> None:
    net, x = model(torch.float16)
    part = network(net, kind)
    with merged([part]):
        branch = WeakBranch([part], choice=engine)  # type: ignore[arg-type]
        guided(net, branch, x)  # factors are moved and weak weights made
        torch.cuda.set_sync_debug_mode("error")
        try:
            guided(net, branch, x)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_the_thin_engine_keeps_nothing_beyond_the_networks_factors() -> None:
    net, x = model(torch.float16)
    part = network(net)
    with merged([part]):
        branch = WeakBranch([part])
        assert "split" not in branch.describe()
        guided(net, branch, x)
        before = torch.cuda.memory_allocated()
        guided(net, branch, x)
        assert torch.cuda.memory_allocated() == before
        assert branch.nbytes == part.nbytes
    del branch, part


@pytest.mark.parametrize("large", [True, False], ids=["two products", "one product"])
@pytest.mark.parametrize("kind", KINDS)
def test_joined_layers_equal_interpolated_weights(
    kind: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "_LARGE", 0 if large else 2**35)
    net, x = model()
    part = network(net, kind)
    weak = interpolated(net, part, OMEGA)(x)
    with merged([part]):
        plain = net(x)
        branch = WeakBranch([part], joins=joins)
        assert "joined" in branch.describe()
        found = halved(net, branch, x)
    error = relative_error(found[WEAK], weak[WEAK])
    print(f"{kind}, {branch.describe()}: weak rows {error:.1e} from interpolated weights")
    assert error < 1e-5
    assert relative_error(found[STRONG], plain[STRONG]) < 1e-5


@HALVES
def test_joined_layers_in_half_precision_and_without_waiting(dtype: torch.dtype) -> None:
    net, x = model(dtype)
    part = network(net)
    with merged([part]):
        thin = guided(net, WeakBranch([part]), x)
        branch = WeakBranch([part], joins=joins)
        halved(net, branch, x)
        before = torch.cuda.memory_allocated()
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = halved(net, branch, x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        del found
        assert torch.cuda.memory_allocated() == before, "both weights are gone"
        found = halved(net, branch, x)
    error = relative_error(found, thin)
    print(f"{dtype}: joined rows {error:.1e} from thin ones")
    assert error < (2e-3 if dtype == torch.float16 else 2e-2)
