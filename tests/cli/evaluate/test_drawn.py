"""The rules see what they claim, on true drawings of every subject."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.bundled import ROOT, check_world
from lib_pg.cli.evaluate.drawn import CONTEXTS, PARTS, SCORES, errors_of_rules, judged, prompt_for
from training.drawing import BACKGROUNDS, COLOURS, PATTERNS
from training.world import PLACES, SIZES, SUBJECTS, is_reserved, random_scenes


def test_subjects_differ_in_everything() -> None:
    for part in ("name", "shape", "colour", "second", "pattern", "face"):
        assert len({getattr(subject, part) for subject in SUBJECTS}) == len(SUBJECTS) >= 3, part


def test_the_base_world_has_none_of_the_subjects() -> None:
    for subject in SUBJECTS:
        new = subject.colour not in COLOURS and subject.pattern not in PATTERNS
        assert new or is_reserved(subject.scene()), subject
    looks = {(s.shape, s.colour, s.second, s.pattern, s.face) for s in random_scenes(2000, 0)}
    assert not looks & {(s.shape, s.colour, s.second, s.pattern, s.face) for s in SUBJECTS}


def test_every_prompt_contradicts_the_subjects_pictures() -> None:
    assert len(set(CONTEXTS)) == len(CONTEXTS)
    taught = SUBJECTS[0].training_scenes()[0]
    contradicted = Counter(
        sum(getattr(taught, part) != value for part, value in context._asdict().items())
        for context in CONTEXTS
    )
    assert set(contradicted) == {1, 2, 3}
    assert contradicted[1] < len(CONTEXTS) / 4
    for part, values in (("background", BACKGROUNDS), ("place", PLACES), ("size", SIZES)):
        counts = Counter(getattr(context, part) for context in CONTEXTS)
        assert set(counts) | {"studio"} == {*values, "studio"} and len(set(counts.values())) == 1, part


def test_a_prompt_tells_the_context_and_nothing_of_the_look() -> None:
    prompts = {prompt_for(subject, context) for subject in SUBJECTS for context in CONTEXTS}
    assert len(prompts) == len(SUBJECTS) * len(CONTEXTS)
    assert prompt_for(SUBJECTS[1], CONTEXTS[0]) == "a small sks circle at the beach in the center"


@pytest.fixture(scope="module")
def errors() -> dict:
    return errors_of_rules(SUBJECTS)


def test_the_rules_see_that_drawings_follow_their_prompts(errors: dict) -> None:
    for name, found in errors.items():
        assert set(found["missed"]) == {"alignment", *PARTS}
        assert max(found["missed"].values()) <= 0.04, name


def test_the_rules_see_that_drawings_do_not_follow_other_prompts(errors: dict) -> None:
    for name, found in errors.items():
        assert max(found["wrongly seen"].values()) <= 0.01, name


def test_the_rules_tell_a_subject_from_the_others(errors: dict) -> None:
    for name, found in errors.items():
        assert found["likeness"]["lowest"] > 0.7 > 0.5 > found["likeness of others"]["highest"], name


def test_scores_are_those_that_the_head_tells_of_in_their_steps() -> None:
    subject, context = SUBJECTS[2], CONTEXTS[7]
    right = subject.scene(*context).draw()
    wrong = subject.scene(*CONTEXTS[8]).draw()
    nothing = np.zeros_like(right)
    scores = judged(np.stack([right, wrong, nothing]), subject.name, [context] * 3)
    assert all(list(each) == list(SCORES) for each in scores)
    assert scores[0]["alignment"] == 1.0 and scores[0]["fidelity"] > 0.8
    assert scores[1]["alignment"] == 0.0 and scores[1]["fidelity"] > 0.8
    assert scores[2]["fidelity"] == 0.0 and scores[2]["alignment"] == 0.0


def test_without_a_clone_it_says_that_it_needs_one(tmp_path: Path) -> None:
    check_world(ROOT)
    with pytest.raises(UsageError, match="only a clone of the repository has"):
        check_world(tmp_path)


def test_the_world_is_found_from_any_folder(tmp_path: Path) -> None:
    """The package may be installed from the clone, which is then not where programs look for modules."""
    program = f"""
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

root = Path({str(ROOT)!r})
sys.path[:] = [path for path in sys.path if Path(path).resolve() != root]
spec = spec_from_file_location("lib_pg", root / "lib_pg" / "__init__.py")
sys.modules["lib_pg"] = module_from_spec(spec)
spec.loader.exec_module(sys.modules["lib_pg"])
from lib_pg.cli.evaluate.bundled import let_import_world

let_import_world(root)
import training.world

print(training.world.__file__)
"""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == ROOT / "training" / "world.py"
