"""Made-up evaluations for tests of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib_pg.cli.evaluate.records import Head, Record, Results, head_of, in_columns, save
from lib_pg.cli.evaluate.report.study import Study, study_of
from lib_pg.cli.evaluate.report.write import write_report

DRAWS = 60
SCALES = (1.0, 2.0, 4.0, 8.0)
METHODS: Mapping[str, Mapping[str, Any]] = {
    "CFG": {"mode": "CFG"},
    "AG 0.5": {"mode": "AG", "weak_ratio": 0.5},
    "PG 0": {"mode": "PG", "weak_ratio": 0.0},
    "PG 0.5": {"mode": "PG", "weak_ratio": 0.5},
    "PG 0.75": {"mode": "PG", "weak_ratio": 0.75},
    "PG falling": {"mode": "PG", "weak_ratio": 0.9, "schedule": "Linear", "weak_ratio_end": 0.3},
    "PG rising": {"mode": "PG", "weak_ratio": 0.3, "schedule": "Linear", "weak_ratio_end": 0.9},
    "PG half, then None": {"mode": "PG", "weak_ratio": 0.5, "end": 0.5, "outside": "None"},
}


def records(
    gains: Mapping[str, float],
    subjects: int = 3,
    prompts: int = 8,
    seeds: int = 2,
    trainings: Sequence[str] = ("normal",),
    noise: float = 0.05,
) -> list[Record]:
    """Return pictures of methods whose fidelity differs by `gains`, all else shared, from a seed.

    Every method shares the luck of a cell, and has some of its own (`noise`).
    """
    rng = np.random.default_rng(0)
    found = []
    for training in trainings:
        for subject in range(subjects):
            level = 0.5 + 0.1 * subject
            for prompt in range(prompts):
                for seed in range(seeds):
                    luck = rng.normal(scale=0.1, size=2)
                    for method, gain in gains.items():
                        for scale in SCALES:
                            own = rng.normal(scale=noise, size=2) if noise else np.zeros(2)
                            step = np.log2(scale)
                            scores = {
                                "alignment": 0.4 + 0.12 * step + luck[0] + own[0],
                                "fidelity": level - 0.03 * step**2 + gain + luck[1] + own[1],
                            }
                            names = (f"subject {subject}", training, method, scale, f"prompt {prompt}", seed)
                            found.append(Record(*names, scores))
    return found


def head(methods: Mapping[str, Mapping[str, Any]] = METHODS) -> Head:
    told = {
        name: {"settings": {"enabled": True, **values}, "scales": SCALES, "about": f"what {name} is"}
        for name, values in methods.items()
    }
    scores = {name: {"about": f"what {name} is", "step": 0.001} for name in ("alignment", "fidelity")}
    return head_of("bundled", "1", 25, told, {"unet": "abc"}, scores, machine={"device": "cpu"})


def results(gains: Mapping[str, float], **how: Any) -> Results:
    return in_columns(head(), records(gains, **how))


def study(gains: Mapping[str, float], **how: Any) -> Study:
    return study_of(results(gains, **how))


def written(folder: Path, given: Results) -> str:
    save(given, folder / "results.json")
    return write_report(folder / "results.json", folder / "docs", draws=DRAWS).read_text("utf-8")


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]
