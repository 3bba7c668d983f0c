"""The extension in a running AUTOMATIC1111, Forge or relative of it, over its API; `conftest.py` says how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.live.host import Answer, Host, Pixels, distance

BRUTE_FORCE = "Brute force weak pass"
FAR = 1.0  # what another guidance differs by at least
GUIDED = {"enabled": True, "weak_ratio": 0.4}


@pytest.fixture(scope="module")
def unprompted(host: Host, prompt: str, plain: Pixels) -> Pixels:
    """Plain CFG with an empty negative prompt."""
    return host.txt2img(prompt, negative_prompt="").picture


@pytest.fixture(scope="module")
def guided(host: Host, prompt: str, plain: Pixels, unprompted: Pixels) -> Answer:
    answer = host.txt2img(prompt, args=GUIDED)
    assert distance(answer.picture, plain) > FAR
    assert distance(answer.picture, unprompted) > FAR
    return answer


def same(a: Pixels, b: Pixels) -> bool:
    return np.array_equal(a, b)


@pytest.mark.parametrize("negative", ["ugly", "", "blurry, (dark:1.3), a [dog:horse:0.5]"])
def test_omega_1_is_cfg_with_an_empty_negative_prompt(
    host: Host, prompt: str, unprompted: Pixels, negative: str
) -> None:
    answer = host.txt2img(prompt, negative_prompt=negative, args={"enabled": True, "weak_ratio": 1})
    assert same(answer.picture, unprompted)
    assert answer.guidance() == {"PG mode": "PG", "PG weak ratio": "1"}
    assert answer.told == []


def test_omega_1_with_the_negative_prompt_is_plain_cfg(host: Host, prompt: str, plain: Pixels) -> None:
    answer = host.txt2img(prompt, args={"enabled": True, "weak_ratio": 1, "weak_prompt": "Negative"})
    assert same(answer.picture, plain)


def test_off_is_plain(host: Host, prompt: str, plain: Pixels) -> None:
    answer = host.txt2img(prompt, args={"enabled": False, "weak_ratio": 0.4})
    assert same(answer.picture, plain)
    assert answer.guidance() == {}


def test_cfg_mode_is_plain_and_claims_nothing(host: Host, prompt: str, plain: Pixels) -> None:
    answer = host.txt2img(prompt, args=GUIDED | {"mode": "CFG"})
    assert same(answer.picture, plain)
    assert answer.guidance() == {}


@pytest.mark.parametrize("mode", ["PG", "AG"])
def test_plain_is_the_same_after_a_guided_run(host: Host, prompt: str, plain: Pixels, mode: str) -> None:
    host.txt2img(prompt, args=GUIDED | {"mode": mode})
    assert same(host.txt2img(prompt).picture, plain)


def test_arguments_in_their_order_are_those_of_the_dict(host: Host, prompt: str, guided: Answer) -> None:
    listed = host.txt2img(prompt, args=[True, "PG", 0.4])
    assert same(listed.picture, guided.picture)
    assert listed.infotexts == guided.infotexts


def test_infotext_has_what_differs_from_the_defaults(host: Host, prompt: str, names: list[str]) -> None:
    settings = GUIDED | {
        "weak_prompt": "Negative",
        "schedule": "Linear",
        "weak_ratio_end": 0.9,
        "start": 0.125,
        "end": 0.875,
        "outside": "None",
        "networks": f"{names[0]}, {names[0]}",
        "hires": "Own",
        "hires_weak_ratio": 0.2,
    }
    assert host.txt2img(prompt, args=settings).guidance() == {
        "PG mode": "PG",
        "PG weak ratio": "0.4",
        "PG weak prompt": "Negative",
        "PG schedule": "Linear",
        "PG weak ratio end": "0.9",
        "PG start": "0.125",
        "PG end": "0.875",
        "PG outside": "None",
        "PG networks": f"{names[0]}, {names[0]}",
        "PG hires": "Own",
        "PG hires weak ratio": "0.2",
    }


def test_a_network_s_own_ratio_wins_over_the_slider(host: Host, names: list[str], guided: Answer) -> None:
    own = host.txt2img(f"a cat on a chair<lora:{names[0]}:1:pg=0.4>", args=GUIDED | {"weak_ratio": 0.9})
    assert same(own.picture, guided.picture)


def test_a_batch_is_its_single_pictures(host: Host, level: float, prompt: str) -> None:
    batch = host.txt2img(prompt, args=GUIDED, batch_size=3).pictures[-3:]
    for seed, picture in enumerate(batch, start=1):
        assert distance(host.txt2img(prompt, args=GUIDED, seed=seed).picture, picture) < level


def test_calls_one_by_one_are_those_in_a_batch(host: Host, level: float, prompt: str, guided: Answer) -> None:
    split = host.txt2img(prompt, args=GUIDED, options={"batch_cond_uncond": False})
    assert distance(split.picture, guided.picture) < level


@pytest.mark.parametrize("batched", [True, False])
def test_nowhere_and_none_outside_is_cfg_scale_1(
    host: Host, level: float, prompt: str, plain: Pixels, batched: bool
) -> None:
    settings = GUIDED | {"start": 1, "outside": "None"}
    never = host.txt2img(prompt, args=settings, options={"batch_cond_uncond": batched})
    assert distance(never.picture, host.txt2img(prompt, cfg_scale=1).picture) < level
    assert distance(never.picture, plain) > FAR


def test_a_schedule_counts_and_a_flat_one_is_constant(host: Host, prompt: str, guided: Answer) -> None:
    linear = host.txt2img(prompt, args=GUIDED | {"schedule": "Linear", "weak_ratio_end": 1})
    flat = host.txt2img(prompt, args=GUIDED | {"schedule": "Linear", "weak_ratio_end": 0.4})
    assert distance(linear.picture, guided.picture) > 0
    assert same(flat.picture, guided.picture)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({"enabled": True, "weak_ratio": 1.5}, "weak_ratio: got 1.5, must be a number from 0 to 1"),
        ({"enabled": True, "omega": 0.5}, "got the key 'omega'"),
        ([True, "Best"], "mode: got 'Best', must be one of 'PG', 'AG', 'CFG'"),
    ],
)
def test_wrong_settings_make_a_plain_picture_and_the_caller_is_told(
    host: Host, prompt: str, plain: Pixels, args: Any, why: str
) -> None:
    answer = host.txt2img(prompt, args=args)
    assert same(answer.picture, plain)
    assert answer.guidance() == {}
    (told,) = answer.told
    assert why in told


def test_and_is_guided(host: Host, names: list[str], prompt: str) -> None:
    both = f"a cat AND a red chair :0.7<lora:{names[0]}:1>"
    unprompted = host.txt2img(both, negative_prompt="").picture
    one = host.txt2img(both, args={"enabled": True, "weak_ratio": 1})
    guided = host.txt2img(both, args=GUIDED)
    assert same(one.picture, unprompted)
    assert distance(guided.picture, unprompted) > FAR
    assert guided.guidance() == {"PG mode": "PG", "PG weak ratio": "0.4"}


def test_every_cell_of_a_grid_is_its_direct_call(host: Host, prompt: str, plain: Pixels) -> None:
    modes, ratios = ["PG", "AG", "CFG"], ["0", "0.5", "1"]
    grid = host.grid(prompt, ("[PG] Mode", ", ".join(modes)), ("[PG] Weak ratio", ", ".join(ratios)))
    assert len(grid.pictures) == 1 + 9 == len(grid.infotexts)
    cells = iter(range(1, 10))
    for ratio in ratios:
        for mode in modes:
            at = next(cells)
            if mode == "CFG":
                assert same(grid.pictures[at], plain)
                assert grid.guidance(at) == {}
            else:
                settings = {"enabled": True, "mode": mode, "weak_ratio": float(ratio)}
                assert same(grid.pictures[at], host.txt2img(prompt, args=settings).picture)
                assert grid.guidance(at) == {"PG mode": mode, "PG weak ratio": ratio}
    assert same(host.txt2img(prompt).picture, plain)


def test_a_wrong_value_of_an_axis_makes_no_grid_and_is_named_with_its_range(host: Host, prompt: str) -> None:
    refused = host.grid(prompt, ("[PG] Weak ratio", "0, 1.5"), ("Nothing", ""), steps=1)
    assert refused.pictures == []
    (said,) = refused.told
    for words in ("no grid is made", "[PG] Weak ratio", "1.5", "from 0 to 1"):
        assert words in said


def test_hires_same_off_and_own(host: Host, prompt: str, plain: Pixels) -> None:
    hires: dict[str, Any] = {
        "enable_hr": True,
        "hr_scale": 1.5,
        "hr_upscaler": "Latent",
        "denoising_strength": 0.8,
        "negative_prompt": "",
    }

    def make(**settings: Any) -> Answer:
        return host.txt2img(prompt, args=GUIDED | settings, **hires)

    default, off = make(), make(hires="Off")
    own, full = make(hires="Own", hires_weak_ratio=0), make(hires="Own", hires_weak_ratio=1)
    assert off.picture.shape == (*(3 * side // 2 for side in plain.shape[:2]), 3)
    assert same(default.picture, make(hires="Own", hires_weak_ratio=0.4).picture)
    assert same(off.picture, full.picture)  # omega 1 is what the host does alone
    assert distance(default.picture, off.picture) > 0
    assert distance(default.picture, own.picture) > 0
    assert distance(off.picture, host.txt2img(prompt, **hires).picture) > 0  # the first pass was guided
    assert off.guidance() == {"PG mode": "PG", "PG weak ratio": "0.4", "PG hires": "Off"}
    assert own.guidance()["PG hires weak ratio"] == "0"


HIRES = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.8}
BRUTE_FORCE_CASES: dict[str, dict[str, Any]] = {
    "euler": {},
    "omega 0": {"omega": 0},
    "heun": {"sampler_name": "Heun"},
    "dpm++ 2m": {"sampler_name": "DPM++ 2M"},
    "ddim": {"sampler_name": "DDIM"},
    "unipc": {"sampler_name": "UniPC"},
    "batch of 3": {"batch_size": 3},
    "two networks": {"networks": 2},
    "and": {"prompt": "a cat AND a red chair :0.7"},
    "a prompt of three chunks": {"prompt": "a cat on a chair, " * 30},
    "hires": HIRES,
    "hires with another prompt and network": {**HIRES, "hr_prompt": "a dog"},
}


@pytest.mark.parametrize("case", BRUTE_FORCE_CASES)
def test_pictures_are_those_of_brute_force(host: Host, level: float, names: list[str], case: str) -> None:
    if BRUTE_FORCE.lower() not in host.scripts():
        pytest.skip("copy tests/live/brute_force or brute_force_forge into the host's extensions, restart it")
    values = dict(BRUTE_FORCE_CASES[case])
    omega, text = values.pop("omega", 0.4), values.pop("prompt", "a cat on a chair")
    count = values.pop("networks", 1)
    if len(names) < count:
        pytest.skip(f"name {count} networks in PG_LIVE_LORA")
    if "hr_prompt" in values:
        values["hr_prompt"] += f"<lora:{names[-1]}:0.8>"
    text += "".join(f"<lora:{name}:{0.9 / count}:{1 / count}>" for name in names[:count])
    ours = host.txt2img(text, args={"enabled": True, "weak_ratio": omega}, **values)
    brute = host.txt2img(
        text, always_on={BRUTE_FORCE: [omega]}, options={"batch_cond_uncond": False}, **values
    )
    unguided = host.txt2img(text, **values | {"negative_prompt": ""})
    for mine, wanted, without in zip(ours.pictures, brute.pictures, unguided.pictures, strict=True):
        print(f"{case}: {distance(mine, wanted):.4f} of brute force, {distance(mine, without):.2f} of CFG")
        assert distance(mine, wanted) < level
        assert distance(mine, without) > FAR
