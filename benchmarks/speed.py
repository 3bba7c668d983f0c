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
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from benchmarks.denoisers import FAMILIES, Denoiser, make
from benchmarks.measure import Measured, measure
from benchmarks.plan import Setting, plan

_DTYPES = {"cuda": ["float16", "bfloat16"], "cpu": ["float32"]}
_MODELS = {"cuda": ["sd15", "sdxl", "sd3", "flux"], "cpu": ["sd15"]}
_SECONDS = {"cuda": 2.5, "cpu": 60.0}
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
    results = Results(options.json, _machine(torch.device(options.device)))
    started, failed = time.monotonic(), 0
    bench = _Models(torch.device(options.device))
    seen: set[tuple[str, str]] = set()
    for number, setting in enumerate(wanted, 1):
        kernels = (setting.model, setting.dtype) not in seen
        seen.add((setting.model, setting.dtype))
        if results.has(setting):
            continue
        spent = time.monotonic() - started
        if options.budget and spent > options.budget:
            print(f"the time is up: {len(wanted) - number + 1} of {len(wanted)} settings are left")
            break
        print(f"[{number}/{len(wanted)}, {spent:.0f} s] {setting.key}", flush=True)
        try:
            result = measure(
                setting,
                bench.get(setting),
                _SECONDS[kind] if options.seconds is None else options.seconds,
                options.steps or _STEPS[kind],
                kernels,
            )
        except Exception:  # a setting that cannot be measured here must not cost those after it
            traceback.print_exc()
            failed += 1
            continue
        results.add(result)
        print(table(result.as_json()), flush=True)
    if failed:
        print(f"{failed} settings could not be measured, see above", file=sys.stderr)
    return 1 if failed else 0


class Results:
    """The file of results: what was measured on one machine, a line a setting."""

    def __init__(self, path: Path | None, machine: dict[str, Any]) -> None:
        self._path = path
        self._found: dict[str, Any] = {"machine": machine, "settings": []}
        if path is not None and path.exists():
            self._found = json.loads(path.read_text(encoding="utf-8"))
            if self._found["machine"] != machine:
                raise SystemExit(
                    f"{path} is of another machine or other versions, {self._found['machine']}, and here is "
                    f"{machine}; choose another file with --json"
                )

    def has(self, setting: Setting) -> bool:
        return any(each["key"] == setting.key for each in self._found["settings"])

    def add(self, result: Measured) -> None:
        self._found["settings"].append(_rounded(result.as_json()))
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            part.write_text(dumped(self._found), encoding="utf-8")
            os.replace(part, self._path)


def dumped(found: dict[str, Any]) -> str:
    """Return results as JSON, a setting a line."""
    lines = ",\n".join("  " + json.dumps(each) for each in found["settings"])
    return f'{{\n "machine": {json.dumps(found["machine"])},\n "settings": [\n{lines}\n ]\n}}\n'


def table(result: dict[str, Any]) -> str:
    """Return a setting's figures for the console, an arm a line."""
    lines = []
    for arm, times in result["seconds"].items():
        middle = sorted(times)[len(times) // 2]
        extra = result["extra_bytes"].get(arm)
        memory = "" if extra is None else f"{extra / 2**20:10.1f} MiB"
        if extra is not None and result["network_bytes"] and arm != "two passes":
            memory += f" = {extra / result['network_bytes']:.2f}x the networks"
        lines.append(f"    {arm:14}{middle * 1000:10.2f} ms{result['ratio'][arm]:8.3f}x{memory}")
    prepared = ", ".join(
        f"{1000 * (attach + max(first, 0.0)):.0f} ms"
        for attach, first in zip(result["attach"], result["first_step"], strict=True)
    )
    lines.append(f"    prepared in {prepared}; {result['engines']}")
    if result["load"] is not None:
        lines.append(
            f"    compared in {result['compare']:.1f} s, the same file is loaded in {result['load']:.1f} s"
        )
    if result["kernels"]:
        said = (
            f"{arm} {count} in {1000 * spent:.2f} ms" for arm, (count, spent) in result["kernels"].items()
        )
        lines.append(f"    kernels a step: {', '.join(said)}")
    if not result["finite"]:
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


def _rounded(value: Any) -> Any:
    """Return results with six digits of each number, as many as a clock has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value


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
    parser.add_argument("--budget", type=float, help="start no setting after so many seconds")
    parser.add_argument("--seconds", type=float, help="about what a setting's rounds may take (2.5; CPU: 60)")
    parser.add_argument("--steps", type=int, help="steps of an arm's turn, an even number (4; CPU: 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on a CPU")
    parser.add_argument("--json", type=Path, help="write results there, and go on with those that are there")
    options = parser.parse_args()
    if options.steps is not None and (options.steps < 2 or options.steps % 2):
        parser.error(f"--steps is {options.steps}, expected an even number of at least 2")
    return options


if __name__ == "__main__":
    sys.exit(main())
