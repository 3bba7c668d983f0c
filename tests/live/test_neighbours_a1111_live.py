"""Other people's extensions beside ours in AUTOMATIC1111; `conftest.py` says how to run it.

Each alone, beside ours, and switched off again. With them on, omega 1 is still what the host makes with an
empty negative prompt, and lower ones are what brute force makes, where that can be combined with them: it
lowers the networks in the calls of the U-Net that the host makes for the unconditional rows.

The extensions are taken where the host has them: NegPiP and Regional Prompter (hako-mikan), Incantations and
CADS (v0xie), FreeU and Neutral Prompt (ljleb), Detail Daemon (muerrilla), Dynamic Thresholding
(mcmonkeyprojects), ControlNet (Mikubill); Hypertile and token merging are the host's own.
FreeU knows levels as wide as those of real models alone: PG_LIVE_WIDE=CHECKPOINT,NETWORK
names a checkpoint with a level 320 channels wide, and a network for it. PG_LIVE_UNET_LORA names a network
without a text encoder's part.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from tests.live.host import Host, distance
from tests.live.neighbours import (
    ADVICE,
    CAT,
    FAR,
    GUIDED,
    Maker,
    Neighbour,
    check_both_at_work,
    drawn,
    place_of_ours,
    reference,
    together,
)

UNET_LORA = os.environ.get("PG_LIVE_UNET_LORA", "")
NEUTRAL_OFF = {"neutral_prompt_enabled": False}


def regional(calculation: str, unet: str = "0", text: str = "0") -> list[Any]:
    """Return Regional Prompter's arguments: two columns; shares that networks have in the negative pass."""
    where = ["Matrix", "Columns", "Mask", "Prompt", "1,1", "0.2", False, False, False, calculation, []]
    return [True, False, *where, text, unet, "0.4", None, "0", "0", False]


def incantations(**on: list[Any]) -> list[Any]:
    """Return the arguments of Incantations, in their order, with some of its parts switched on."""
    parts = {
        "energy": [False, 11.0, 0, 150],
        "semantic": [False, 1.0, 0.8, 3.0, 0.0, 0, 150, 4],
        "perturbed": [False, 0, 0, 150, False, "Constant", 0, 100, False],
        "zero": [False, False, 2, 0.1, 0.5, 0.0, "", 0.0, 25, 1],
        "seek": [False, False, False, "BREAK", "-", 0.2, 10],
    }
    return [value for part in (parts | on).values() for value in part]


def daemon(amount: float, mode: str) -> list[Any]:
    return [True, True, False, mode, 0.0, 1.0, 0.5, amount, 1.0, 0.0, 0.0, 0.0, True]


_STAGES = [{"backbone_factor": 1.3, "skip_factor": 0.4}] * 3
_SCALE_FIX = [True, 3.0, 95.0, "Constant", 0.0, "Constant", 0.0, 4.0, True, "MEAN", "AD", 1.0]
_REGIONS = "a cat BREAK a red dog"

NEIGHBOURS: dict[str, Neighbour] = {
    "NegPiP": Neighbour("NegPiP", [True], f"{CAT},(red:-1.5)"),
    "Regional Prompter, attention": Neighbour("Regional Prompter", regional("Attention"), _REGIONS),
    # It sets networks before every call itself; the negative pass has none of them by default.
    "Regional Prompter, latent": Neighbour(
        "Regional Prompter",
        regional("Latent"),
        _REGIONS,
        options=NEUTRAL_OFF,
        by_brute_force=False,
        own_weights=True,
        weakens=False,
    ),
    "perturbed attention": Neighbour(
        "Incantations", incantations(perturbed=[True, 5.0, 0, 150, False, "Constant", 0, 100, False])
    ),
    # The next two look at both rows of one call, which brute force cuts in two.
    "smoothed energy": Neighbour(
        "Incantations", incantations(energy=[True, 11.0, 0, 150]), by_brute_force=False, least=0.02
    ),
    "semantic CFG": Neighbour(
        "Incantations", incantations(semantic=[True, 1.0, 0.8, 3.0, 0.0, 0, 150, 4]), by_brute_force=False
    ),
    "T2I-Zero": Neighbour("Incantations", incantations(zero=[True, False, 2, 0.1, 0.5, 1.0, "", 0.0, 25, 0])),
    "FreeU": Neighbour("FreeU", [{"enable": True, "version": "2", "stage_infos": _STAGES}], wide=True),
    "Neutral Prompt": Neighbour("Neutral Prompt", None, f"{CAT} AND_PERP a red dog :0.8", off=NEUTRAL_OFF),
    "Neutral Prompt, salient": Neighbour(
        "Neutral Prompt", None, f"{CAT} AND_SALT a red dog :0.8", off=NEUTRAL_OFF
    ),
    "Neutral Prompt, rescaled": Neighbour("Neutral Prompt", [0.7]),
    "CADS": Neighbour("CADS", [True, 0.6, 0.9, 0.25, 1.0, True, False]),
    "Detail Daemon": Neighbour("Detail Daemon", daemon(0.5, "both"), least=0.1),
    "Detail Daemon, uncond": Neighbour("Detail Daemon", daemon(1.0, "uncond"), least=0.1),
    "Dynamic Thresholding": Neighbour("Dynamic Thresholding (CFG Scale Fix)", _SCALE_FIX),
    # One size of tile: of several it draws one for every call, and brute force makes two calls of each.
    "Hypertile": Neighbour(
        "",  # its script has no arguments
        None,
        on={"hypertile_enable_unet": True},
        values={"width": 256, "height": 256},  # a tile is 128 at least
        options={"hypertile_swap_size_unet": 1, "hypertile_max_tile_unet": 128},
    ),
    "token merging": Neighbour("", None, on={"token_merging_ratio": 0.5}),
    "ControlNet, reference": Neighbour("ControlNet", reference("reference_only")),
    "ControlNet, AdaIN": Neighbour("ControlNet", reference("reference_adain")),
    "ControlNet, AdaIN and attention": Neighbour("ControlNet", reference("reference_adain+attn")),
}
# Regional Prompter and NegPiP have prompts of their own, and its latent mode fails beside Neutral Prompt.
TOGETHER = (
    "NegPiP",
    "perturbed attention",
    "Neutral Prompt, rescaled",
    "CADS",
    "Detail Daemon",
    "Dynamic Thresholding",
    "Hypertile",
    "token merging",
)


@pytest.fixture(scope="module")
def make(host: Host, names: list[str]) -> Maker:
    # AUTOMATIC1111 has these; where ControlNet is installed, its API lists no settings of extensions.
    host.know_options(["hypertile_enable_unet", "hypertile_swap_size_unet", "hypertile_max_tile_unet"])
    if "neutral prompt" in host.scripts():
        host.know_options(NEUTRAL_OFF)
    return Maker(host, names[0])


def test_all_together(host: Host, level: float, make: Maker) -> None:
    """Run it with ours before and behind them in the host's order of extensions.

    It comes first: once Regional Prompter's latent mode was used, NegPiP is another one, ours there or not.
    """
    neighbour = together(NEIGHBOURS, TOGETHER, f"{CAT},(red:-1.5)")
    check_both_at_work(host, level, make, neighbour, f"{', '.join(TOGETHER)}; {place_of_ours(host)}")


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_both_are_at_work_and_nothing_stays(host: Host, level: float, make: Maker, name: str) -> None:
    check_both_at_work(host, level, make, NEIGHBOURS[name], name)


def test_regions_and_a_reference_are_both_at_work(host: Host, level: float, make: Maker) -> None:
    """Both change attention; to cut the batch makes another picture here, so there is no brute force."""
    names = ("Regional Prompter, attention", "ControlNet, reference")
    pair = together(NEIGHBOURS, names, _REGIONS, by_brute_force=False)
    check_both_at_work(host, level, make, pair, f"{', '.join(names)}; {place_of_ours(host)}")
    both = drawn(make(pair, on=True, ours=GUIDED), pair)
    for name in names:
        one = replace(NEIGHBOURS[name], prompt=_REGIONS)
        assert distance(both, drawn(make(one, on=True, ours=GUIDED), one)) > FAR, f"{name} is there alone"


@pytest.mark.parametrize("omega", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("part", ["U-Net", "U-Net and text encoder"])
def test_omega_is_regional_prompter_s_own_share_of_the_negative_pass(
    host: Host, make: Maker, names: list[str], level: float, part: str, omega: float
) -> None:
    """Its latent mode changes networks in mid-step: what is there is followed."""
    if "regional prompter" not in host.scripts():
        pytest.skip(f"the host has no Regional Prompter: {ADVICE}")
    network = UNET_LORA if part == "U-Net" else names[0]
    if not network:
        pytest.skip("set PG_LIVE_UNET_LORA to a network without a text encoder's part")
    values = {"prompt": f"{_REGIONS}<lora:{network}:1>", "steps": 4, "options": NEUTRAL_OFF}
    theirs = {"Regional Prompter": regional("Latent", str(omega), str(omega))}
    expected = host.txt2img(**values, negative_prompt="", always_on=theirs)
    whole = {"Regional Prompter": regional("Latent", "1", "1")}
    ours = host.txt2img(**values, args={"enabled": True, "weak_ratio": omega}, always_on=whole)
    print(f"\n| {part}, {omega} | {distance(ours.picture, expected.picture):.4f} | {ours.told}")
    assert distance(ours.picture, expected.picture) < level
    assert ours.told == []
    if omega < 1.0:
        full = host.txt2img(**values, negative_prompt="", always_on=whole)
        assert distance(full.picture, expected.picture) > FAR
