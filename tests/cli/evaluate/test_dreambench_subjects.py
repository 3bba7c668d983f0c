"""Folders of subjects and lists of prompts, as users have them and as they go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lib_pg.cli.errors import UsageError
from lib_pg.cli.evaluate.dreambench.prompts import (
    OWN,
    Prompt,
    filled,
    read_captions,
    read_templates,
    with_token,
)
from lib_pg.cli.evaluate.dreambench.subjects import Subject, read_subjects
from tests.cli.evaluate.dreambench_models import picture

# As DreamBench's file is written, with prompts of our own.
DREAMBENCH = """Classes

subject_name,class
mug,coffee mug
rex,dog

Prompts

Object Prompts

prompt_list = [
'a {0} {1} on a shelf'.format(unique_token, class_token),
"a {0} {1} on the king's table".format(unique_token, class_token),
'a big {0} {1}'.format(unique_token, class_token)
]

Live Subject Prompts

prompt_list = [
'a {0} {1} in a hat'.format(unique_token, class_token),
]
"""


def subject(folder: Path, said: object = None, pictures: int = 1, weights: int = 1) -> None:
    folder.mkdir(parents=True)
    for number in range(pictures):
        picture(number).save(folder / f"{number:02d}.png")
    for number in range(weights):
        (folder / f"lora{number}.safetensors").touch()
    if said is not None:
        text = said if isinstance(said, str) else json.dumps(said)
        (folder / "subject.json").write_text(text, "utf-8")


def read(folder: Path, **options: Any) -> list[Subject]:
    return read_subjects(folder, options.get("prompts"), OWN, options.get("token"))


def test_dreambenchs_own_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(DREAMBENCH, "utf-8")
    found = read_templates(tmp_path / "prompts.txt")
    assert found.objects == ("a {0} {1} on a shelf", "a {0} {1} on the king's table", "a big {0} {1}")
    assert found.live == ("a {0} {1} in a hat",)
    assert found.classes == {"mug": "coffee mug", "rex": "dog"}


def test_plain_lines_are_for_all_subjects(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(
        "\ufeffa {0} {1} in the snow\n\nthe {1}\na {0} {1} in the snow\n", "utf-8"
    )
    found = read_templates(tmp_path / "prompts.txt")
    assert found.objects == found.live == ("a {0} {1} in the snow", "the {1}")


def test_our_own_list_has_as_many_as_dreambench() -> None:
    found = read_templates(OWN)
    assert len(found.objects) == len(found.live) == 25
    assert all("{0}" in each and "{1}" in each for each in (*found.objects, *found.live))


def test_clip_is_not_told_the_token() -> None:
    assert filled("a {0} {1} in the snow", "sks", "dog") == Prompt(
        "a sks dog in the snow", "a dog in the snow"
    )
    assert filled("a {0} {1}", "", "dog") == Prompt("a dog", "a dog")
    assert with_token("A small Dog, asleep", "sks", "dog") == Prompt(
        "A small sks Dog, asleep", "A small Dog, asleep"
    )
    assert with_token("a dogfish", "sks", "dog").told == "a dogfish"
    assert with_token("a c++ (x) mug", "sks", "c++ (x").told != ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no prompts"),
        ("Prompts\n\nprompt_list = [\n]", "has no prompts"),
        ("a dog in the snow", "line 1: 'a dog in the snow' is no prompt"),
        ("a {0} {1}\na {0.__class__} {1}", "line 2: .* is no prompt"),
        ("'a {0} {1}'.format(open('x').read())", "is no prompt"),
        ("Classes\nmug", "'mug' is no `subject,class`"),
        ("a {1} " + "x" * 2000, "at most 1000 of 1000"),
        ("\n".join(f"a {{1}} {number}" for number in range(2000)), "at most 1000 of 1000"),
        ("a {1}\n" * 200_000, "is over 1024 KiB"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "prompts.txt").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=problem) as caught:
        read_templates(tmp_path / "prompts.txt")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"a \xff {1}")
    with pytest.raises(UsageError, match="UTF-8"):
        read_templates(tmp_path / "prompts.txt")
    with pytest.raises(UsageError, match="cannot be read"):
        read_templates(tmp_path)
    (tmp_path / "00.txt").write_text("kitten\n", "utf-8")
    with pytest.raises(UsageError, match="has 1 lines"):
        read_captions(tmp_path / "00.txt")


def test_a_folder_of_subjects(tmp_path: Path) -> None:
    subject(tmp_path / "mug", {"class": "cup", "token": "zwx", "strength": 0.8, "training": "2000 steps"}, 3)
    subject(tmp_path / "rex")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "prompts_and_classes.txt").write_text(DREAMBENCH, "utf-8")
    mug, rex = read(tmp_path)
    assert (mug.name, mug.word, mug.training) == ("mug", "cup", "2000 steps")
    assert mug.models.strength == 0.8 and mug.models.lora == tmp_path / "mug" / "lora0.safetensors"
    assert [path.name for path in mug.references] == ["00.png", "01.png", "02.png"]
    assert mug.prompts[0] == Prompt("a zwx cup on a shelf", "a cup on a shelf")
    assert rex.prompts == (Prompt("a sks dog in a hat", "a dog in a hat"),)  # a dog is a live subject
    assert read(tmp_path, token="abc")[1].prompts[0].told == "a abc dog in a hat"


@pytest.mark.parametrize("checkpoint", ["../sdxl", "tuned.safetensors"])
def test_the_only_network_beside_a_checkpoint_belongs_to_it(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / "subjects").mkdir()
    (tmp_path / "subjects" / ".hidden").mkdir()
    folder = tmp_path / "subjects" / "mug"
    subject(folder, {"class": "mug", "checkpoint": checkpoint})
    (folder / checkpoint).touch()
    (mug,) = read(tmp_path / "subjects")
    assert mug.models.checkpoint == folder / checkpoint
    assert mug.models.lora == folder / "lora0.safetensors"
    (folder / "lora0.safetensors").unlink()
    (mug,) = read(tmp_path / "subjects")
    assert mug.models.lora is None


def test_a_subject_may_have_prompts_of_its_own(tmp_path: Path) -> None:
    subject(tmp_path / "mug", {"class": "mug", "prompts": ["a {0} {1}", "a {0}  {1}", "tea"]})
    assert [prompt.told for prompt in read(tmp_path)[0].prompts] == ["a sks mug", "tea"]


def test_the_users_file_of_prompts_wins_and_the_folders_classes_stay(tmp_path: Path) -> None:
    subject(tmp_path / "subjects" / "mug")
    (tmp_path / "subjects" / "prompts_and_classes.txt").write_text(DREAMBENCH, "utf-8")
    (tmp_path / "mine.txt").write_text("a {0} {1} at sea", "utf-8")
    (mug,) = read(tmp_path / "subjects", prompts=tmp_path / "mine.txt")
    assert [prompt.told for prompt in mug.prompts] == ["a sks coffee mug at sea"]


def test_what_dreambench_plus_plus_looks_like(tmp_path: Path) -> None:
    for kind, name in (("animal", "00"), ("object", "07")):
        for part, suffix in (("images", "jpg"), ("captions", "txt"), ("loras", "safetensors")):
            path = tmp_path / part / kind / f"{name}.{suffix}"
            path.parent.mkdir(parents=True)
            path.touch()
    (tmp_path / "captions" / "animal" / "00.txt").write_text(
        "Kitten\nA kitten asleep\n\nA kitten at sea\n", "utf-8"
    )
    (tmp_path / "captions" / "object" / "07.txt").write_text("Mug\nA full mug\n", "utf-8")
    kitten, mug = read(tmp_path)
    assert (kitten.name, kitten.word) == ("animal/00", "Kitten")
    assert kitten.prompts == (
        Prompt("A kitten asleep", "A kitten asleep"),
        Prompt("A kitten at sea", "A kitten at sea"),
    )
    assert mug.references == (tmp_path / "images" / "object" / "07.jpg",)
    assert read(tmp_path, token="sks")[1].prompts == (Prompt("A full sks mug", "A full mug"),)
    with pytest.raises(UsageError, match="leave out --prompts"):
        read(tmp_path, prompts=OWN)
    (tmp_path / "loras" / "object" / "07.safetensors").unlink()
    with pytest.raises(UsageError, match=r"put its LoRA at loras/object/07\.safetensors"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"said": None}, "'mug' has no class word"),
        ({"said": {"class": ""}}, "has no class word"),
        ({"said": {"class": "mug"}, "pictures": 0}, "has 0 pictures; put 1 to 100"),
        ({"said": {"class": "mug"}, "weights": 0}, "has 0 .safetensors files; name its fine-tune"),
        ({"said": {"class": "mug"}, "weights": 2}, "has 2 .safetensors files; name its fine-tune"),
        ({"said": {"class": "mug", "lora": "none.safetensors"}}, "lora .* does not exist"),
        ({"said": {"class": "mug", "clas": 1}}, "has 'clas', which is unknown"),
        ({"said": {"class": 5}}, "a value for 'class' that cannot be used"),
        ({"said": {"class": "mug", "strength": True}}, "a value for 'strength'"),
        ({"said": {"class": "mug", "strength": 1e9}}, "strength is 1000000000.0"),
        ({"said": {"class": "m" * 501}}, "a value for 'class'"),
        ({"said": {"class": "mug", "prompts": []}}, "prompts must be a list"),
        ({"said": {"class": "mug", "prompts": [1]}}, "prompts must be a list"),
        ({"said": {"class": " "}}, "has no class word"),
        ({"said": {"class": "mug", "lora": ""}, "weights": 0}, "a value for 'lora'"),
        ({"said": {"class": "mug", "lora": " "}, "weights": 2}, "a value for 'lora'"),
        ({"said": {"class": "mug", "checkpoint": "."}, "weights": 2}, "has 2 .safetensors files"),
        ({"said": {"class": "mug", "checkpoint": "a\0b"}}, "a value for 'checkpoint'"),
        ({"said": {"class": "mug", "checkpoint": "x" * 300}}, "checkpoint .* does not exist"),
        ({"said": {"class": "mug", "checkpoint": ""}}, "a value for 'checkpoint'"),
        ({"said": {"class": "mug", "training": ""}}, "a value for 'training'"),
        ({"said": {"class": "mug", "training": "\ud800"}}, "a value for 'training'"),
        ({"said": {"class": "mug", "token": "\ud800"}}, "a value for 'token'"),
        ({"said": {"class": "mug", "prompts": ["a \ud800"]}}, "prompts must be a list"),
        ({"said": {"class": "mug", "prompts": ["a {1}", " "]}}, "prompts must be a list"),
        ({"said": '{"class": "mug", "strength": 1' + "0" * 400 + "}"}, "strength is 1000"),
        ({"said": "[]"}, "is no JSON object"),
        ({"said": "{"}, "is no JSON"),
        ({"said": "[" * 50_000}, "is no JSON"),
        ({"said": '{"class": "' + "x" * 70_000 + '"}'}, "is over 64 KiB"),
        ({"said": '{"class": "mug", "strength": NaN}'}, "strength is nan"),
    ],
)
def test_subjects_that_cannot_be_used_are_refused_in_a_line(
    tmp_path: Path, how: dict[str, Any], problem: str
) -> None:
    subject(tmp_path / "mug", **how)
    with pytest.raises(UsageError, match=problem) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_no_subjects_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no folder"):
        read(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        read(tmp_path / "none")
