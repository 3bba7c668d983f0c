"""Records to arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.records import in_columns
from lib_pg.cli.evaluate.report.study import Group, Scored, shared_prompts, study_of
from tests.cli.evaluate.report_studies import SCALES, head, records, results

GAINS = {"PG 0.5": 0.05, "CFG": 0.0}


def find(group: Group, method: str) -> Scored:
    return next(each for each in group.methods if each.method == method)


def test_scores_lie_where_their_picture_does() -> None:
    """Each score says which picture it is of; the records come in any order."""
    given = records(GAINS)
    given = [
        replace(each, scores={"alignment": float(number), "fidelity": each.scale})
        for number, each in enumerate(given)
    ]
    shuffled = [given[number] for number in np.random.default_rng(1).permutation(len(given))]
    (group,) = study_of(in_columns(head(), shuffled)).groups
    seen = set()
    for method in ("CFG", "PG 0.5"):
        scored = find(group, method)
        assert scored.scales == SCALES
        for row, scale in enumerate(scored.scales):
            for column, number in enumerate(scored.scores["alignment"][row].astype(int)):
                picture = given[number]
                assert (picture.method, picture.scale) == (method, scale)
                assert scored.scores["fidelity"][row, column] == scale
                assert picture.subject == group.names[group.subjects[column]]
                seen.add((column, picture.subject, picture.prompt, picture.seed))
    assert len(seen) == 3 * 8 * 2  # one picture a column, the same for all settings


def test_prompts_are_told_apart() -> None:
    (group,) = study_of(results(GAINS)).groups
    together = set(zip(group.subjects.tolist(), group.prompts.tolist(), strict=True))
    assert len(together) == 3 * 8
    assert len(set(group.prompts.tolist())) == 8


def test_prompts_that_differ_by_the_subject_are_shared() -> None:
    subjects = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    prompts = [
        *("a sks star at sea", "a sks star at night", "a red sks star"),
        *("a abc stuffed dog at sea", "a abc stuffed dog at night", "a blue abc stuffed dog"),
        *("a sks star at sea", "a sks star at night"),  # of which two have more in common
    ]
    found = shared_prompts(subjects, prompts)
    assert found[:3] == ["at sea", "at night", "red"]
    assert found[3:6] == ["at sea", "at night", "blue"]
    assert found[6:] == ["sea", "night"]


def test_methods_come_in_the_heads_order() -> None:
    (group,) = study_of(results({"new": 0.0, **GAINS})).groups
    assert [each.method for each in group.methods] == ["CFG", "PG 0.5", "new"]
    assert find(group, "PG 0.5").settings["weak_ratio"] == 0.5
    assert find(group, "PG 0.5").about == "what PG 0.5 is"


def test_amounts_of_training_come_in_their_order() -> None:
    groups = study_of(results(GAINS, trainings=("over", "lokr", "under", "normal"))).groups
    assert [group.training for group in groups] == ["under", "normal", "over", "lokr"]


def test_only_pictures_that_all_settings_have_count() -> None:
    given = [each for each in records(GAINS) if (each.method, each.prompt) != ("CFG", "prompt 3")]
    (group,) = study_of(in_columns(head(), given)).groups
    assert group.left_out == 3 * 2 * 4  # of PG: subjects, seeds, scales
    assert all(scored.scores["fidelity"].shape == (4, 42) for scored in group.methods)


def test_a_subject_without_any_such_picture_is_gone() -> None:
    given = [each for each in records(GAINS) if (each.method, each.subject) != ("CFG", "subject 0")]
    (group,) = study_of(in_columns(head(), given)).groups
    assert group.names == ("subject 1", "subject 2")
    assert set(group.subjects.tolist()) == {0, 1}


def test_nothing_in_common_is_said() -> None:
    given = [each for each in records(GAINS) if (each.method == "CFG") == (each.seed == 0)]
    with pytest.raises(UsageError, match="no picture in common"):
        study_of(in_columns(head(), given))
    with pytest.raises(UsageError, match="no pictures"):
        study_of(in_columns(head(), []))


def test_the_head_may_name_what_is_compared() -> None:
    given = replace(results(GAINS), head={**head(), "axes": {"fidelity": "dino"}, "reference": [0.1, 0.2]})
    with pytest.raises(UsageError, match="no score 'dino'"):
        study_of(given)
    scores = {**given.scores, "dino": given.scores["fidelity"]}
    found = study_of(replace(given, scores=scores))
    assert (found.alignment, found.fidelity, found.reference) == ("alignment", "dino", (0.1, 0.2))
