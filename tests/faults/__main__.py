"""Plays scenarios with faults on a contract host, or on a real one.

python -m tests.faults --host a1111 --runs 1000 [--first SEED]
python -m tests.faults --host forge --seed 123
python -m tests.faults --host a1111 --runs 200 --url http://127.0.0.1:7860
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.faults.play import Report, extensions, play
from tests.faults.scenario import HOSTS, draw


def main() -> int:
    options = _options()
    if options.url:
        from tests.faults.live import run

        return run(options.url, options.host, range(options.first, options.first + options.runs))
    failed, counts, start = 0, Counter[str](), time.perf_counter()
    with extensions() as loaded:
        for seed in range(options.first, options.first + options.runs):
            scenario = draw(options.host, seed)
            try:
                report = play(scenario, loaded[options.host])
            except Exception as error:
                if options.runs == 1:
                    traceback.print_exc()
                report = Report(str(scenario.fault), False, [f"the harness broke off: {error!r}"])
            counts[scenario.fault.what if report.has_happened else f"{scenario.fault.what}, not reached"] += 1
            if options.runs == 1:
                print(scenario)
            if report.complaints:
                failed += 1
                print(f"{scenario.line()}  # {report.fault}: {'; '.join(report.complaints)}", flush=True)
    print_counts(counts, failed, time.perf_counter() - start)
    return 1 if failed else 0


def print_counts(counts: Counter[str], failed: int, seconds: float) -> None:
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    print(f"{sum(counts.values()):6} in {seconds:.0f} s, {failed} failed")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--host", choices=HOSTS, required=True)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--first", "--seed", type=int, default=0, help="seed of the first run")
    parser.add_argument("--url", default="", help="a real host, started with --api, with tests/live/probe")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
