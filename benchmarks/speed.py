"""What guidance costs beside classifier-free guidance: step time, memory, preparation.

    python -m benchmarks.speed --device cuda --models sd15 sdxl sd3 flux --budget 360 --json build/speed.json

Arms take turns in one run, so that a slow minute of the machine slows all of them; ratios are taken within a
round. Models have the published architectures and random weights: nothing is fetched. benchmarks/arms.py
says what the arms are, benchmarks/plan.py what is measured in which order: the most important comes first.

Results are written after every setting. A run with the same file goes on where the last one ended, as long
as device and versions are the same. `python -m benchmarks.cost_page` makes docs/cost.md of such files.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.denoisers import FAMILIES, Denoiser, make
from benchmarks.measure import count_kernels, measure
from benchmarks.plan import Setting, plan, with_kernels
from benchmarks.results_file import Results, Row

_DTYPES = {"cuda": ["float16", "bfloat16"], "cpu": ["float32"]}
_MODELS = {"cuda": ["sd15", "sdxl", "sd3", "flux"], "cpu": ["sd15"]}
_SECONDS = {"cuda": 2.0, "cpu": 60.0}
_STEPS = {"cuda": 4, "cpu": 2}


def main() -> int:
    options = _options()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    # Products in float32 as exact as the type: elsewhere it has no effect.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    kind = torch.device(options.device).type
    models = options.models or _MODELS[kind]
    wanted = plan(models, options.dtypes or _DTYPES[kind], kind)
    try:
        results = Results(options.json, _machine(torch.device(options.device)))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    bench = _Models(torch.device(options.device))
    seconds = _SECONDS[kind] if options.seconds is None else options.seconds
    failed = _measure_all(wanted, results, bench, seconds, options.steps or _STEPS[kind], options.budget)
    if kind == "cuda":
        failed += _count_all(with_kernels(wanted), results, bench)
    if failed:
        print(f"{failed} settings could not be measured, see above", file=sys.stderr)
    return 1 if failed else 0


def _measure_all(
    wanted: Sequence[Setting],
    results: Results,
    bench: _Models,
    seconds: float,
    steps: int,
    budget: float | None,
) -> int:
    """Measure what the results do not have yet, until the time is up; return how many settings failed."""
    started, failed = time.monotonic(), 0
    for number, setting in enumerate(wanted, 1):
        if results.has(setting):
            continue
        spent = time.monotonic() - started
        if budget and spent > budget:
            print(f"the time is up: {len(wanted) - number + 1} of {len(wanted)} settings are left")
            break
        print(f"[{number}/{len(wanted)}, {spent:.0f} s] {setting.key}", flush=True)
        try:
            result = measure(setting, bench.get(setting), seconds, steps)
        except Exception:  # a setting that cannot be measured here must not cost those after it
            traceback.print_exc()
            failed += 1
            continue
        results.add(result)
        print(table(Row(setting, result.as_json())), flush=True)
    return failed


def _count_all(wanted: Sequence[Setting], results: Results, bench: _Models) -> int:
    """Count kernels, last of all: afterwards no times are true any more; return how many settings failed."""
    failed = 0
    for setting in filter(results.lacks_kernels, wanted):
        try:
            found = count_kernels(setting, bench.get(setting))
        except Exception:
            traceback.print_exc()
            failed += 1
            continue
        results.add_kernels(setting, found)
        said = ", ".join(f"{arm} {n} in {1000 * spent:.2f} ms" for arm, (n, spent) in found.items())
        print(f"kernels a step, {setting.key}: {said}", flush=True)
    return failed


def table(row: Row) -> str:
    """Return a setting's figures for the console, an arm a line."""
    lines = []
    for arm in row.arms:
        extra, memory = row.extra(arm), row.memory(arm)
        said = "" if extra is None else f"{extra / 2**20:10.1f} MiB"
        said += "" if memory is None else f" = {memory:.2f}x the networks"
        lines.append(f"    {arm:14}{row.step(arm) * 1000:10.2f} ms{row.ratio(arm):8.3f}x{said}")
    prepared = f"{1000 * row.prepared(0):.0f} ms, again in {1000 * row.prepared(1):.0f} ms"
    lines.append(f"    prepared in {prepared}; {row.engines}")
    found = row.found
    if found["load"] is not None:
        lines.append(
            f"    compared in {found['compare']:.1f} s, the same file loads in {found['load']:.1f} s"
        )
    if not found["finite"]:
        lines.append("    NOT FINITE: half precision overflowed, its times may be wrong")
    return "\n".join(lines)


class _Models:
    """The model of the current setting: one at a time is in memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._current: tuple[tuple[str, str], Denoiser] | None = None

    def get(self, setting: Setting) -> Denoiser:
        key = (setting.model, setting.dtype)
        if self._current is None or self._current[0] != key:
            self._current = None
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            self._current = key, make(setting.model, self._device, getattr(torch, setting.dtype))
        return self._current[1]


def _machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": device.type,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "diffusers": version("diffusers"),
    }
    if device.type == "cuda":
        found |= {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    else:
        found |= {"device": _processor(), "threads": torch.get_num_threads()}
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog=(__doc__ or "").partition("\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="cuda, cuda:1 or cpu")
    parser.add_argument("--models", nargs="+", choices=FAMILIES, metavar="MODEL", help=", ".join(FAMILIES))
    parser.add_argument(
        "--dtypes", nargs="+", choices=["float32", "float16", "bfloat16"], metavar="DTYPE",
        help="the first for everything, others to compare (default: float16 bfloat16; float32 on a CPU)",
    )  # fmt: skip
    parser.add_argument(
        "--budget",
        type=float,
        help="start no setting after so many seconds; a GPU's kernels are counted after that",
    )
    parser.add_argument("--seconds", type=float, help="about what a setting's rounds may take (2; CPU: 60)")
    parser.add_argument("--steps", type=int, help="steps of an arm's turn, an even number (4; CPU: 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on a CPU")
    parser.add_argument("--json", type=Path, help="write results there, and go on with those that are there")
    options = parser.parse_args()
    if options.steps is not None and (options.steps < 2 or options.steps % 2):
        parser.error(f"--steps is {options.steps}, expected an even number of at least 2")
    return options


if __name__ == "__main__":
    sys.exit(main())
