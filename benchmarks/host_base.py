"""What a base checkpoint costs in a running WebUI, beside the host's own loading of the fine-tune.

    python -m benchmarks.host_base --url http://127.0.0.1:7860 --tuned tuned.safetensors \\
        --base sd15.safetensors --other other.safetensors --process 1234

Each round the host loads `--other`, then the fine-tune, and makes pictures of one step: plain ones, the first
one with the base, one more, and one without it. With `--process`, the number of the host's process on this
machine, its memory is told, too; with `--cold`, both files are read from the disk each time (both Linux). The
host needs `--api` and the extension.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.live.host import Host


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", required=True, help="address of the host")
    parser.add_argument("--tuned", required=True, help="name of the fine-tuned checkpoint")
    parser.add_argument("--base", required=True, help="name of what it started from")
    parser.add_argument("--other", required=True, help="name of any other checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--process", type=int, help="number of the host's process")
    parser.add_argument("--cold", type=Path, nargs=2, default=(), metavar="FILE", help="fine-tune and base")
    options = parser.parse_args()
    host, guided = Host(options.url), {"enabled": True, "weak_ratio": 0.5, "base_checkpoint": options.base}
    found: dict[str, list[float]] = {"load": [], "first": [], "later": [], "memory": [], "memory left": []}
    for _ in range(options.rounds):
        seconds(host, options.other)
        forget(options.cold)
        loaded, plain = seconds(host, options.tuned), seconds(host, options.tuned)
        before = memory(options.process)
        forget(options.cold)
        first = seconds(host, options.tuned, guided)
        during, later = memory(options.process), seconds(host, options.tuned, guided)
        seconds(host, options.tuned)
        found["load"].append(loaded - plain)
        found["first"].append(first - plain)
        found["later"].append(later - plain)
        found["memory"].append(during - before)
        found["memory left"].append(memory(options.process) - before)
    for name, values in found.items():
        unit = "GiB" if name.startswith("memory") else "s"
        print(f"{name:12} {statistics.median(values):6.2f} {unit}, {min(values):.2f} to {max(values):.2f}")


def seconds(host: Host, checkpoint: str, args: Mapping[str, Any] | None = None) -> float:
    """Return the time of a small picture of one step with a checkpoint."""
    start = time.perf_counter()
    options = {"sd_model_checkpoint": checkpoint}
    host.txt2img("a cat", args=args, options=options, steps=1, width=64, height=64)
    return time.perf_counter() - start


def forget(files: Sequence[Path]) -> None:
    """Have the system drop what it keeps of files in memory."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def memory(process: int | None) -> float:
    """Return the memory of a process that is no mapped file, in GiB; 0 where it cannot be told."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if process and status.exists() else []
    found = [line for line in lines if line.startswith("RssAnon:")]
    return int(found[0].split()[1]) / 2**20 if found else 0.0


if __name__ == "__main__":
    main()
