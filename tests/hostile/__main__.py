"""Hostile input in numbers:

    python -m tests.hostile [KIND ...] --runs 10000 --first 0

Each kind runs in a process of its own. A failure prints what is wrong and one line that repeats it.
"""

from __future__ import annotations

import argparse
import sys

from tests.hostile.runs import KINDS, MEMORY_MAX, SECONDS_MAX, apart, here


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--runs", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--here", action="store_true", help="in this process, whose memory is bounded then")
    options = parser.parse_args()
    kinds = options.kinds or list(KINDS)
    if options.here:
        for kind in kinds:
            here(kind, options.runs, options.first)
        return 0
    failed = 0
    for kind in kinds:
        ended = apart(kind, options.runs, options.first)
        said = ", ".join(f"{count} {name}" for name, count in ended.counts.items())
        print(f"{kind}: {ended.failure or said}", flush=True)
        failed += bool(ended.failure)
    print(
        f"each within {MEMORY_MAX >> 20} MiB and {SECONDS_MAX} seconds" if not failed else f"{failed} failed"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
