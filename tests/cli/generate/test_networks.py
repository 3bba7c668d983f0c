"""A network is its file: two of one name are two, one given twice is used twice, a renamed one is found."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.networks import LoraFile, LoraUse, brought_together, names_of, repeated
from lib_pg.cli.generate.options import _lora
from lib_pg.prompt import Own, split_tags

DOG = Path("dog/pytorch_lora_weights.safetensors")
STYLE = Path("style/pytorch_lora_weights.safetensors")


def _no_hash(path: Path, digits: int) -> str:
    return ""


def _together(uses: list[LoraUse], *given: LoraFile, hashes: dict[str, str] | None = None) -> list[LoraUse]:
    """Files have the hash of their folder's name."""
    return list(brought_together(uses, given, hashes or {}, lambda path, digits: path.parent.name[:digits]))


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    assert list(names_of([DOG, STYLE]).values()) == [
        "dog/pytorch_lora_weights",
        "style/pytorch_lora_weights",
    ]
    assert list(names_of([Path("x/a.safetensors"), Path("y/b.safetensors")]).values()) == ["a", "b"]
    deep = [Path("x/dog/a.safetensors"), Path("y/dog/a.safetensors"), Path("y/dog/A.safetensors")]
    assert list(names_of(deep).values()) == ["dog/a", "dog/a 2", "dog/A 3"]


def test_a_name_can_stand_in_a_tag(tmp_path: Path) -> None:
    for stem in ("a:b", "a=b", "a,b", "<a>", "a\nb", "lora 1.5"):
        (name,) = names_of([tmp_path / f"{stem}.safetensors"]).values()
        _, (network,), _ = split_tags(LoraUse(name, 0.5).tag())
        assert (network.name, network.unet_strength) == (name, 0.5)


def test_two_files_of_one_name_are_two_networks() -> None:
    found = _together([], LoraFile(DOG, 0.5), LoraFile(STYLE))
    assert [(use.path, use.strength) for use in found] == [(DOG, 0.5), (STYLE, 1.0)]
    again = [LoraUse(use.name, use.strength) for use in found]
    assert _together(again, LoraFile(STYLE), LoraFile(DOG)) == found
    assert repeated(found) == []


def test_one_file_given_twice_is_used_twice_and_said() -> None:
    found = _together([], LoraFile(DOG, 0.5), LoraFile(Path("dog/../dog") / DOG.name, 0.25))
    assert [use.strength for use in found] == [0.5, 0.25]
    assert len({use.name for use in found}) == 1
    assert repeated(found) == [
        "network 'pytorch_lora_weights' is given 2 times and used as often; its strengths add up, to 0.75"
    ]


def test_on_the_way_back_the_first_changes_the_first_and_one_file_does_for_both() -> None:
    uses = [LoraUse("pytorch_lora_weights", 0.5), LoraUse("pytorch_lora_weights", 0.25)]
    assert [use.strength for use in _together(uses, LoraFile(DOG))] == [0.5, 0.25]
    assert [use.strength for use in _together(uses, LoraFile(DOG, 0.1))] == [0.1, 0.25]
    assert [use.strength for use in _together(uses, LoraFile(DOG), LoraFile(DOG, 0.1))] == [0.5, 0.1]
    three = _together(uses, LoraFile(DOG), LoraFile(DOG), LoraFile(DOG, 0.1))
    assert [use.strength for use in three] == [0.5, 0.25, 0.1]
    assert all(use.path == DOG for use in three)


def test_a_renamed_file_is_found_by_its_hash_and_keeps_its_name() -> None:
    (use,) = _together([LoraUse("puppy")], LoraFile(DOG, 0.3), hashes={"puppy": "dog"})
    assert (use.name, use.path, use.strength) == ("puppy", DOG, 0.3)


def test_the_hash_wins_over_the_name() -> None:
    other = Path("cat/dog.safetensors")
    found = _together([LoraUse("dog")], LoraFile(other), LoraFile(DOG), hashes={"dog": "dog"})
    assert [(use.name, use.path) for use in found] == [("dog", DOG), ("dog", other)]


def test_a_name_that_fits_two_files_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'pytorch_lora_weights' of the prompt may be .*dog.* and .*style"):
        brought_together([LoraUse("pytorch_lora_weights")], [LoraFile(DOG), LoraFile(STYLE)], {}, _no_hash)


def test_a_network_without_a_file_has_no_path() -> None:
    assert [use.path for use in _together([LoraUse("cat")], LoraFile(DOG))] == [None, DOG]


def test_options_change_only_what_they_say() -> None:
    had = LoraUse("pytorch_lora_weights", 0.8, 0.5, Own(0.3))
    for given, expected in (
        (LoraFile(DOG), (0.8, 0.5, Own(0.3))),
        (LoraFile(DOG, 0.4), (0.4, None, Own(0.3))),
        (LoraFile(DOG, own=Own(strength=0.1)), (0.8, 0.5, Own(0.3, 0.1))),
        (LoraFile(DOG, 0.4, 0.2, Own(0.9)), (0.4, 0.2, Own(0.9))),
    ):
        (use,) = _together([had], given)
        assert (use.strength, use.te_strength, use.own) == expected


def test_a_strength_out_of_range_is_refused_unless_an_option_wins() -> None:
    hostile = LoraUse("pytorch_lora_weights", 1e9)
    with pytest.raises(UsageError, match="strength 1e\\+09; it must lie between -100 and 100"):
        _together([hostile], LoraFile(DOG))
    assert _together([hostile], LoraFile(DOG, 1.0))[0].strength == 1.0


LORAS = {
    "x.safetensors": (None, None, Own()),
    "x.safetensors:.5": (0.5, None, Own()),
    "x.safetensors:0.5:0.8": (0.8, 0.5, Own()),
    "x.safetensors:0.5:0.5": (0.5, None, Own()),
    "x.safetensors:te=0.5": (0.5, None, Own()),
    "x.safetensors:unet=0.5": (0.5, 1.0, Own()),
    "x.safetensors:1:PG=0.3": (1.0, None, Own(0.3)),
    "x.safetensors:1: pg = 0.3:weak=-1": (1.0, None, Own(0.3, -1.0)),
}


@pytest.mark.parametrize("text", LORAS)
@pytest.mark.parametrize("folder", ["", "C:\\nets\\", "a:b/", "pg=1/"])
def test_what_follows_a_path(text: str, folder: str) -> None:
    lora = _lora(folder + text)
    assert (lora.strength, lora.te_strength, lora.own) == LORAS[text]
    assert lora.path == Path(f"{folder}x.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x.safetensors:0.5:0.8:0.3", "more than two strengths"),
        ("x.safetensors:dyn=4", "dyn= is unknown"),
        ("x.safetensors:0.5:101", "must lie between -100 and 100"),
        ("x.safetensors:te=x", "expected a number"),
        (":0.5", "no path"),
    ],
)
def test_what_cannot_follow_a_path(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        _lora(text)
