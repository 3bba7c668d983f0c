"""Other people's extensions beside ours in AUTOMATIC1111; `conftest.py` says how to run it.

Each alone, beside ours, and switched off again. With them on, omega 1 is still what the host makes with an
empty negative prompt, and lower ones are what brute force makes, where that can be combined with them: it
lowers the networks in the calls of the U-Net that the host makes for the unconditional rows.

The extensions are taken where the host has them: NegPiP and Regional Prompter (hako-mikan), Incantations and
CADS (v0xie), FreeU and Neutral Prompt (ljleb), Detail Daemon (muerrilla), Dynamic Thresholding
(mcmonkeyprojects). FreeU knows levels as wide as those of real models alone: PG_LIVE_WIDE=CHECKPOINT,NETWORK
names a checkpoint with a level 320 channels wide, and a network for it. PG_LIVE_UNET_LORA names a network
without a text encoder's part.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.live.host import Answer, Host, distance

BRUTE_FORCE = "Brute force weak pass"
PROBE = "Live probe"
OMEGA = 0.4
FAR = 0.5
ADVICE = "install it in the host's extensions folder and restart the host"
UNET_LORA = os.environ.get("PG_LIVE_UNET_LORA", "")
WIDE = os.environ.get("PG_LIVE_WIDE", "").split(",")
CAT = "a cat on a chair"
NEUTRAL_OFF = {"neutral_prompt_enabled": False}


@dataclass(frozen=True)
class Neighbour:
    """An extension as a call of the host's API has it.

    Attributes:
        args: what switches it on; None where the prompt alone does.
        values: further values of the call.
        options: settings of the host with which it works.
        off: settings that switch it off, where leaving the arguments out does not.
        by_brute_force: whether brute force can be combined with it.
        least: what it changes in a picture at least, in the mean of 255 levels.
        wide: whether it does nothing to a small model.
        own_weights: whether it leaves weights of other bits behind by itself.
    """

    title: str
    args: list[Any] | None
    prompt: str = CAT
    values: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    off: Mapping[str, Any] = field(default_factory=dict)
    by_brute_force: bool = True
    least: float = FAR
    wide: bool = False
    own_weights: bool = False


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
}
every = pytest.mark.parametrize("name", NEIGHBOURS)


class Maker:
    """Makes the pictures of one neighbour."""

    def __init__(self, host: Host, neighbour: Neighbour, network: str) -> None:
        self._host, self._neighbour = host, neighbour
        checkpoint, network = (*WIDE, "")[:2] if neighbour.wide else ("", network)
        self._prompt = f"{neighbour.prompt}<lora:{network}:1>"
        self._checkpoint = {"sd_model_checkpoint": checkpoint} if checkpoint else {}

    def __call__(self, on: bool, omega: float | None = None, brute: float = -1, **values: Any) -> Answer:
        neighbour = self._neighbour
        beside = {neighbour.title: neighbour.args} if on and neighbour.args else {}
        options = {**neighbour.options, **self._checkpoint, **({} if on else neighbour.off)}
        if brute >= 0:
            beside = {**beside, BRUTE_FORCE: [brute]}
        args = None if omega is None else {"enabled": True, "weak_ratio": omega}
        values = {"steps": 4, **neighbour.values, **values}
        return self._host.txt2img(self._prompt, args=args, always_on=beside, options=options, **values)


@pytest.fixture
def make(host: Host, names: list[str], name: str) -> Maker:
    neighbour = NEIGHBOURS[name]
    if neighbour.title.lower() not in host.scripts():
        pytest.skip(f"the host has no {neighbour.title}: {ADVICE}")
    if neighbour.wide and len(WIDE) != 2:
        pytest.skip("set PG_LIVE_WIDE to a checkpoint and a network")
    return Maker(host, neighbour, names[0])


@every
def test_both_are_at_work_and_nothing_stays(host: Host, level: float, make: Maker, name: str) -> None:
    neighbour = NEIGHBOURS[name]
    make(on=False, negative_prompt="something else")  # brute force leaves a text encoder lowered till then
    plain = make(on=False).picture
    before = host.state() if PROBE.lower() in host.scripts() else None
    alone = make(on=True, negative_prompt="").picture
    both = make(on=True, omega=OMEGA)
    without = make(on=False, omega=OMEGA).picture
    again = make(on=True, negative_prompt="").picture
    off = make(on=False).picture
    after = before and host.state()
    changes = distance(alone, make(on=False, negative_prompt="").picture)
    print(
        f"{name}: alone it changes {changes:.3f}; ours beside it {distance(both.picture, alone):.3f}, "
        f"it beside ours {distance(both.picture, without):.3f}; said: {both.told}"
    )
    if neighbour.by_brute_force and BRUTE_FORCE.lower() in host.scripts():
        found = distance(both.picture, make(on=True, brute=OMEGA).picture)
        print(f"{name}: {found:.4f} from brute force")
    else:
        found = 0.0
    assert changes > neighbour.least
    assert both.guidance() == {"PG mode": "PG", "PG weak ratio": str(OMEGA)}
    assert distance(both.picture, without) > neighbour.least, "the neighbour did nothing beside ours"
    assert np.array_equal(again, alone), "the neighbour makes another picture after ours"
    assert np.array_equal(off, plain), "something stays"
    if before and after:  # the neighbour's own hooks may stay: Incantations' do
        assert neighbour.own_weights or after["weights"] == before["weights"]
        assert after["ours"] == 0
    assert found < level


@every
def test_omega_1_is_the_neighbour_with_an_empty_negative_prompt(make: Maker, name: str) -> None:
    assert np.array_equal(make(on=True, omega=1.0).picture, make(on=True, negative_prompt="").picture)


@pytest.mark.skipif(not UNET_LORA, reason="set PG_LIVE_UNET_LORA to a network without a text encoder's part")
@pytest.mark.parametrize("omega", [0.0, 0.4, 1.0])
def test_omega_is_regional_prompter_s_own_share_of_the_negative_pass(
    host: Host, level: float, omega: float
) -> None:
    """Its latent mode changes networks in mid-step: what is there is followed."""
    if "regional prompter" not in host.scripts():
        pytest.skip(f"the host has no Regional Prompter: {ADVICE}")
    values = {"prompt": f"{_REGIONS}<lora:{UNET_LORA}:1>", "steps": 4, "options": NEUTRAL_OFF}
    theirs = {"Regional Prompter": regional("Latent", str(omega), str(omega))}
    expected = host.txt2img(**values, negative_prompt="", always_on=theirs)
    whole = {"Regional Prompter": regional("Latent", "1", "1")}
    ours = host.txt2img(**values, args={"enabled": True, "weak_ratio": omega}, always_on=whole)
    assert distance(ours.picture, expected.picture) < level
    assert ours.told == []
    if omega < 1.0:
        full = host.txt2img(**values, negative_prompt="", always_on=whole)
        assert distance(full.picture, expected.picture) > FAR
