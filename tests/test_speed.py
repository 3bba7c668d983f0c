"""The benchmark's arms compute what they are called, and its page says what its files do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import cost_page
from benchmarks.arms import (
    AG,
    ARMS,
    CFG,
    FALLING,
    FAST,
    FAST_HALF,
    GUIDED,
    HALF,
    PG,
    RE_MERGE,
    SECOND_MODEL,
    TWO_PASSES,
    Case,
    prediction,
    sample,
    weakened_copy,
)
from benchmarks.denoisers import make
from benchmarks.measure import measure
from benchmarks.networks import KINDS, random_network
from benchmarks.plan import FINE_TUNE, Setting, plan, with_kernels
from benchmarks.results_file import Results, read
from lib_pg.deltas.merge import merged
from tests.pipelines import relative_error, same_bits

CPU = torch.device("cpu")
SETTING = Setting("tiny", "float32", 32, rank=4)


@pytest.fixture(scope="module")
def latents() -> dict[str, Tensor]:
    """What every arm samples from the same noise."""
    torch.set_grad_enabled(False)
    denoiser = make("tiny", CPU, torch.float32)
    before = [value.clone() for value in denoiser.module.state_dict().values()]
    networks = [random_network(denoiser.module, rank=4, layers="all")]
    case = Case(denoiser, 2, 32, networks, second=weakened_copy(denoiser, networks))
    found = {}
    with merged(case.parts):
        for arm in ARMS:
            with prediction(case, arm, case.run(arm) if arm in GUIDED else None) as predict:
                found[arm] = sample(case, predict, 4)
    assert same_bits(before, list(denoiser.module.state_dict().values()))
    torch.set_grad_enabled(True)
    return found


@pytest.mark.parametrize("arm", [FAST, RE_MERGE, SECOND_MODEL])
def test_other_ways_to_weaken_make_the_same_picture(latents: dict[str, Tensor], arm: str) -> None:
    assert relative_error(latents[arm], latents[PG]) < 1e-5
    assert relative_error(latents[CFG], latents[PG]) > 1e-3


def test_fast_steps_make_the_same_picture_where_none_follow(latents: dict[str, Tensor]) -> None:
    assert relative_error(latents[FAST_HALF], latents[HALF]) < 1e-5


def test_two_passes_are_cfg(latents: dict[str, Tensor]) -> None:
    assert relative_error(latents[TWO_PASSES], latents[CFG]) < 1e-5


def test_every_other_arm_makes_a_picture_of_its_own(latents: dict[str, Tensor]) -> None:
    for arm in (AG, FALLING, HALF):
        for other in (CFG, PG):
            assert relative_error(latents[arm], latents[other]) > 1e-3


def test_none_runs_half_of_the_rows_in_half_of_the_steps() -> None:
    denoiser = make("tiny", CPU, torch.float32)
    case = Case(denoiser, 2, 32, [random_network(denoiser.module, rank=4)])
    rows: list[int] = []
    hook = denoiser.module.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    with torch.no_grad(), merged(case.parts), prediction(case, HALF, case.run(HALF)) as predict:
        sample(case, predict, 4)
    hook.remove()
    assert rows == [4, 4, 4, 2, 2]  # the first step twice


@pytest.mark.parametrize("kind", [*KINDS, FINE_TUNE])
def test_every_kind_is_measured_and_the_weights_stay(kind: str, tmp_path: Path) -> None:
    denoiser = make("tiny", CPU, torch.float32)
    before = [value.clone() for value in denoiser.module.state_dict().values()]
    with torch.no_grad():
        found = measure(replace(SETTING, kind=kind), denoiser, 0.0, 2)
    assert same_bits(before, list(denoiser.module.state_dict().values()))
    assert found.finite and set(found.ratio) == {CFG, PG, FAST}
    assert found.layers_adapted == (116 if kind == FINE_TUNE else 40)
    assert len(found.attach) == len(found.first_step) == 2
    assert (found.load is not None) == (kind == FINE_TUNE)


def test_results_are_kept_after_every_setting_and_read_again(tmp_path: Path) -> None:
    path, machine = tmp_path / "speed-here.json", {"kind": "cpu", "device": "here"}
    denoiser = make("tiny", CPU, torch.float32)
    results = Results(path, machine)
    with torch.no_grad():
        results.add(measure(SETTING, denoiser, 0.0, 2))
    assert Results(path, machine).has(SETTING)
    assert not Results(path, machine).has(replace(SETTING, batch=2))
    with pytest.raises(ValueError, match="another machine"):
        Results(path, {"kind": "cpu", "device": "there"})
    assert results.lacks_kernels(SETTING) and not results.lacks_kernels(replace(SETTING, batch=2))
    results.add_kernels(SETTING, {CFG: (100, 1e-9), PG: (120, 2e-9)})
    assert not Results(path, machine).lacks_kernels(SETTING)
    (found,) = read(tmp_path)
    assert [row.setting for row in found.rows] == [SETTING]
    assert found.label == "here"
    page = cost_page.machine_page(found)
    assert "| CFG | 100 |" in page and "| PG | 120 |" in page and "| 2.000x |" in page
    page = cost_page.page([found])
    assert "- [here](cost-here.md)" in page
    assert "here is busy in less than 90% of CFG's step with tiny in float32" in page


def test_a_note_that_was_written_by_hand_stays(tmp_path: Path) -> None:
    """It says what has to be known of the run, and the page shows it."""
    path = tmp_path / "speed-here.json"
    shutil.copy(cost_page.RESULTS / "speed-h100.json", path)
    (before,) = read(tmp_path)
    results = Results(path, before.facts)
    results.add_kernels(before.rows[0].setting, before.rows[0].found["kernels"])
    (after,) = read(tmp_path)
    assert before.note and after.note == before.note
    assert path.read_bytes() == (cost_page.RESULTS / "speed-h100.json").read_bytes()


def test_a_damaged_file_of_results_is_named(tmp_path: Path) -> None:
    path = tmp_path / "speed-here.json"
    path.write_text('{"machine": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"speed-here.json is damaged.*--json"):
        Results(path, {"kind": "cpu"})


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_plan_names_every_setting_once_and_what_matters_first(device: str) -> None:
    found = plan(["sd15", "sdxl", "sd3"], ["float16", "bfloat16"], device)
    assert len({setting.key for setting in found}) == len(found)
    assert found[0].arms == ARMS and found[0].model == "sd15"
    assert [setting.rank for setting in found[:6]] == [32, 16, 128] * 2
    assert {setting.kind for setting in found} == {*KINDS, FINE_TUNE}
    assert all(setting.arms[:2] == (CFG, PG) for setting in found)
    counted = with_kernels(found)
    assert found[0] in counted and len({setting.model for setting in counted}) == 3
    assert len(counted) < 10 and any(setting.kind == "full difference" for setting in counted)


@pytest.mark.skipif(not any(cost_page.RESULTS.glob("speed-*.json")), reason="nothing has been measured yet")
def test_the_page_is_that_of_the_files() -> None:
    machines = list(read(cost_page.RESULTS))
    assert cost_page.PAGE.read_text("utf-8") == cost_page.page(machines)
    for machine in machines:
        own = cost_page.PAGE.parent / f"cost-{machine.label}.md"
        assert own.read_text("utf-8") == cost_page.machine_page(machine)
    pages = {path.name for path in cost_page.PAGE.parent.glob("cost-*.md")}
    assert pages == {f"cost-{machine.label}.md" for machine in machines}
