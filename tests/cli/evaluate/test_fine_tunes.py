"""Subjects that are taught by the command: kept, found again, and files as users have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lib_pg.cli.evaluate import fine_tunes
from lib_pg.cli.evaluate.fine_tunes import COURSES, Course, paths_of, teach_subject
from lib_pg.cli.hashes import WITHOUT_HEADER, fingerprint
from lib_pg.cli.paths import BUNDLED_PIPELINE
from lib_pg.cli.pipelines import load_pipeline
from lib_pg.hosts.diffusers import load_base_checkpoint, load_network
from training.world import SUBJECTS

LORA = Course(SUBJECTS[0], "lora", (("under", 1), ("over", 2)))
LOKR = Course(SUBJECTS[1], "lokr", (("lokr", 1),))
FULL = Course(SUBJECTS[0], "full", (("full", 1),))


def teach(course: Course, cache: Path, seed: int = 0) -> list[int]:
    return list(teach_subject(course, seed, cache))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    for course in (LORA, LOKR, FULL):
        assert teach(course, folder) == list(range(1, course.stops[-1][1] + 1))
    return folder


def test_every_amount_of_training_and_kind_is_taught() -> None:
    taught = [(course.subject.name, name) for course in COURSES for name, _ in course.stops]
    names = [subject.name for subject in SUBJECTS]
    assert len(set(taught)) == len(taught)
    assert set(taught) == {
        *((name, amount) for name in names for amount in ("under", "normal", "over")),
        (names[0], "lokr"),
        (names[0], "full"),
    }
    for course in COURSES:
        steps = [steps for _, steps in course.stops]
        assert steps == sorted(set(steps))


def test_what_is_there_is_not_taught_again(cache: Path) -> None:
    assert [teach(course, cache) for course in (LORA, LOKR, FULL)] == [[], [], []]


def test_what_one_of_two_amounts_lacks_is_taught_anew(cache: Path, tmp_path: Path) -> None:
    over = paths_of(LORA, 0, cache)[1].path
    kept = fingerprint(over, WITHOUT_HEADER)
    over.unlink()
    assert teach(LORA, cache) == [1, 2]
    assert fingerprint(over, WITHOUT_HEADER) == kept  # the same seed, the same file


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": 2e-3},
        {"rank": 4},
        {"batch": 2},
        {"bare": 2},
        {"told": 3},
        {"subject": SUBJECTS[2]},
        {"stops": (("under", 3),)},
    ],
)
def test_whatever_decides_has_another_name(tmp_path: Path, changes: dict) -> None:
    names = {each.path.name for each in paths_of(LORA, 0, tmp_path)}
    assert names.isdisjoint(each.path.name for each in paths_of(replace(LORA, **changes), 0, tmp_path))
    assert names.isdisjoint(each.path.name for each in paths_of(LORA, 1, tmp_path))


def test_changed_code_and_another_base_have_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = paths_of(LORA, 0, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(fine_tunes, "_source", lambda module: b"changed")
        assert paths_of(LORA, 0, tmp_path) != before
    with monkeypatch.context() as patch:
        patch.setattr(fine_tunes, "fingerprint", lambda path: "another")
        assert paths_of(LORA, 0, tmp_path) != before
    assert paths_of(LORA, 0, tmp_path) == before


@pytest.mark.parametrize(
    "name", ["adapters", "common", "drawing", "model", "train_base", "train_subject", "world"]
)
def test_changed_code_of_each_kind_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Such as the words of captions, the noise, or how pictures become tensors."""
    before = paths_of(LORA, 0, tmp_path)
    source = fine_tunes._source

    def changed(module: ModuleType) -> bytes:
        return b"changed" if module.__name__ == f"training.{name}" else source(module)

    monkeypatch.setattr(fine_tunes, "_source", changed)
    assert not set(paths_of(LORA, 0, tmp_path)) & set(before)


def test_an_ended_run_leaves_no_half_file(tmp_path: Path) -> None:
    steps = teach_subject(LORA, 0, tmp_path)
    next(steps)
    steps.close()
    under, over = (each.path for each in paths_of(LORA, 0, tmp_path))
    assert under.exists() and not over.exists()
    assert teach(LORA, tmp_path) == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((under.name, over.name))


@pytest.mark.parametrize(("course", "kind"), [(LORA, "LowRank"), (LOKR, "LoKr")])
def test_the_readers_take_a_network_as_a_users_file(cache: Path, course: Course, kind: str) -> None:
    pipeline = load_pipeline(BUNDLED_PIPELINE, None, "cpu", "float32")
    said: list[str] = []
    network = load_network(pipeline, paths_of(course, 0, cache)[-1].path, warn=said.append)
    assert said == []
    deltas = [delta for part in network.parts.values() for delta in part.deltas.values()]
    assert {type(delta).__name__ for delta in deltas} == {kind}
    assert {name: len(part.deltas) for name, part in network.parts.items()} == {"unet": 106, "te1": 12}
    assert all(delta.dense().abs().max() > 0 for delta in deltas)


def test_a_full_fine_tune_is_a_checkpoint_with_the_bundled_model_as_its_base(cache: Path) -> None:
    pipeline = load_pipeline(paths_of(FULL, 0, cache)[0].path, None, "cpu", "float32")
    said: list[str] = []
    base = load_base_checkpoint(pipeline, BUNDLED_PIPELINE, "full", said.append)
    assert said == []
    assert set(base.network.parts) == {"unet"}
    changed = base.network.parts["unet"].deltas
    assert len(changed) > 150
    assert not changed.keys() & set(pipeline.unet.add_embedding.modules())


def test_teaching_makes_the_subject_likelier() -> None:
    """Ten steps lower the loss that they are made for."""
    from training.model import alphas_cumprod
    from training.train_base import TextToLatent, velocity_loss
    from training.train_subject import pictures_of
    from training.train_subject import teach as taught

    pipeline = load_pipeline(BUNDLED_PIPELINE, None, "cpu", "float32")
    latents, ids = pictures_of(pipeline, SUBJECTS[1], bare=1)
    model = TextToLatent(pipeline.unet, pipeline.text_encoder).requires_grad_(False)

    def loss() -> float:
        torch.manual_seed(0)
        steps = torch.linspace(100, 900, len(latents)).long()
        with torch.no_grad():
            return float(velocity_loss(model, latents, ids, alphas_cumprod(), steps))

    before = loss()
    torch.manual_seed(0)
    weights = list(model.unet.requires_grad_(True).parameters())
    with torch.enable_grad():  # commands that ran before may have switched it off
        assert list(taught(model, weights, (latents, ids), 10, 4, 1e-4)) == list(range(1, 11))
    assert loss() < 0.95 * before
