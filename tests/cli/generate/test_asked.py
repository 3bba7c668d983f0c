"""What a command line and a picture ask for together; nothing is loaded for it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.asked import Asked, asked_for
from lib_pg.cli.generate.networks import LoraUse
from lib_pg.cli.main import _parser
from lib_pg.cli.picture_files import png_with
from lib_pg.prompt import Own

END = "Steps: 2, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 64x64, Version: personalization-guidance 1"
FOREIGN = END.replace("personalization-guidance 1", "v1.10.1")

Ask = Callable[..., Asked]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def ask(*arguments: str, text: str | None = None, loras: tuple[str, ...] = ("dog",)) -> Asked:
        if text is not None:
            (tmp_path / "in.png").write_bytes(png_with(Image.new("L", (1, 1)), text))
            arguments = ("--from-png", str(tmp_path / "in.png"), *arguments)
        for lora in loras:
            name, _, rest = lora.partition(":")
            (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
            arguments = (
                *arguments,
                "--lora",
                f"{tmp_path / name}.safetensors" + (f":{rest}" if rest else ""),
            )
        return asked_for(_parser().parse_args(["generate", *arguments]))

    return ask


def _uses(asked: Asked) -> list[tuple[object, ...]]:
    return [(use.name, use.te_strength, use.strength, use.own) for use in asked.job.loras]


TAGS = {
    "<lora:dog:0.8>, a star": (", a star", None, 0.8, Own()),
    "a <lora:dog:0.8>star": ("a star", None, 0.8, Own()),
    "a star <lora:dog:0.5:0.8>": ("a star", 0.5, 0.8, Own()),
    "a star <lora:dog:0.5:unet=0.8>": ("a star", 0.5, 0.8, Own()),
    "a star <lora:dog:te=.5:unet=.8>": ("a star", 0.5, 0.8, Own()),
    "a star <lora:dog:unet=0.8>": ("a star", 1.0, 0.8, Own()),
    "a star <lora:dog:te=0.8>": ("a star", None, 0.8, Own()),
    "a star <lora:dog>": ("a star", None, 1.0, Own()),
    "a star <lora:dog:.8>": ("a star", None, 0.8, Own()),
    "a star <lyco:dog:-1e-1>": ("a star", None, -0.1, Own()),
    "a star <lora:dog:0.8:pg=.3>": ("a star", None, 0.8, Own(0.3)),
    "a star <lora:DOG:0.8:weak=0.2>": ("a star", None, 0.8, Own(strength=0.2)),
    "<lora:dog:1>": ("", None, 1.0, Own()),
}


@pytest.mark.parametrize("from_picture", [True, False])
@pytest.mark.parametrize("prompt", TAGS)
def test_tags_are_read_as_the_webuis_read_them(ask: Ask, prompt: str, from_picture: bool) -> None:
    asked = ask(text=f"{prompt}\n{END}") if from_picture else ask("--prompt", prompt)
    text, te, unet, own = TAGS[prompt]
    assert (asked.job.prompt, asked.notices) == (text, ())
    assert [use[1:] for use in _uses(asked)] == [(te, unet, own)]


def test_what_is_not_used_of_tags_is_said(ask: Ask) -> None:
    asked = ask("--prompt", "a <hypernet:x:1><lora:dog:1:1:16> <LORA:y:1>")
    assert asked.job.prompt == "a"
    assert asked.notices == (
        "dog: dyn=16 is not used",
        "the tag <hypernet:x:1> is not used; networks are written <lora:name:1>",
        "the tag <LORA:y:1> is not used; networks are written <lora:name:1>",
    )
    assert "strength 'x' is not a number" in ask("--prompt", "a <lora:dog:x>").notices[0]


def test_options_win_before_anything_is_refused(ask: Ask) -> None:
    hopeless = (
        "a <lora:gone:1e9> (b:1)\nNegative prompt: __c__\nSteps: x, Sampler: DPM++ 9Z, "
        "Schedule type: Odd, CFG scale: -, Seed: no, Size: 1, Batch size: 1e9, Precision: int2, "
        "PG mode: XX, PG weak ratio: 7, Version: personalization-guidance 1"
    )
    given = {
        "--prompt": "new", "--negative": "", "--steps": "3", "--sampler": "Euler", "--scale": "4",
        "--seed": "9", "--width": "32", "--height": "40", "--batch": "2", "--dtype": "float32",
        "--mode": "PG", "--weak-ratio": "0.2", "--schedule-type": "Karras",
    }  # fmt: skip
    asked = ask(*[part for pair in given.items() for part in pair], text=hopeless)
    job = asked.job
    assert (job.prompt, job.negative, job.steps, job.sampler, job.schedule_type) == (
        "new",
        "",
        3,
        "Euler",
        "Karras",
    )
    assert (job.scale, job.seed, job.width, job.height, job.batch) == (4.0, 9, 32, 40, 2)
    assert (job.settings.mode, job.settings.weak_ratio, job.settings.enabled) == ("PG", 0.2, True)
    assert asked.notices == (
        "network 'gone' of the picture is not used: the new prompt does not ask for it, and its file is not "
        "given",
    )


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("Steps: x", "have Steps 'x'; expected a whole number; give --steps"),
        ("CFG scale: x", "have CFG scale 'x'; expected a number; give --scale"),
        ("Size: 64", "have Size '64'; expected WIDTHxHEIGHT; give --width and --height"),
        ("Sampler: DPM++ SDE Karras", "sampler 'DPM\\+\\+ SDE' is not known here; choose one with --sampler"),
    ],
)
def test_what_is_needed_and_cannot_be_read_is_refused(ask: Ask, parameter: str, message: str) -> None:
    key = parameter.partition(":")[0]
    text = ", ".join(parameter if pair.startswith(f"{key}:") else pair for pair in END.split(", "))
    with pytest.raises(UsageError, match=message):
        ask(text=f"a\n{text}")
    with pytest.raises(UsageError, match="have no Seed; expected a whole number; give --seed"):
        ask(text="a\n" + END.replace("Seed: 5, ", ""))


def test_a_new_prompt_keeps_the_networks_whose_files_are_given(ask: Ask) -> None:
    text = f"a <lora:dog:0.4> <lora:style:0.6>\n{END}"
    asked = ask("--prompt", "new", text=text)
    assert _uses(asked) == [("dog", None, 0.4, Own())]
    assert "network 'style' of the picture is not used" in asked.notices[0]
    assert _uses(ask("--prompt", "new <lora:dog:0.1>", text=text)) == [("dog", None, 0.1, Own())]
    with pytest.raises(UsageError, match="asks for network 'style'; give its file with --lora PATH"):
        ask(text=text)


SCHEDULES = {
    "Sampler: DPM++ 2M": ("DPM++ 2M", ""),
    "Sampler: DPM++ 2M Karras": ("DPM++ 2M", "Karras"),
    "Sampler: DPM++ 2M, Schedule type: Karras": ("DPM++ 2M", "Karras"),
    "Sampler: DPM++ 2M, Schedule type: Automatic": ("DPM++ 2M", "Karras"),
    "Sampler: DPM++ 2M SDE, Schedule type: Automatic": ("DPM++ 2M SDE", "Exponential"),
    "Sampler: Euler, Schedule type: Automatic": ("Euler", ""),
    "Sampler: Euler, Schedule type: SGM Uniform": ("Euler", "SGM Uniform"),
    "Sampler: UniPC, Scheduler: karras": ("UniPC", "Karras"),
}


@pytest.mark.parametrize("written", SCHEDULES)
def test_schedule_types_are_used(ask: Ask, written: str) -> None:
    asked = ask(text="a\n" + END.replace("Sampler: Euler", written))
    assert (asked.job.sampler, asked.job.schedule_type) == SCHEDULES[written]
    assert asked.notices == ()


@pytest.mark.parametrize("kind", ["Beta", "Align Your Steps", "Odd"])
def test_a_schedule_type_that_cannot_be_used_is_named(ask: Ask, kind: str) -> None:
    asked = ask(text="a\n" + END.replace("Sampler: Euler", f"Sampler: Euler, Schedule type: {kind}"))
    assert asked.job.schedule_type == ""
    assert asked.notices == (f"schedule type {kind} is not used: Euler cannot follow it here",)
    with pytest.raises(UsageError, match=f"cannot follow schedule type '{kind}'"):
        ask("--prompt", "a", "--sampler", "Euler", "--schedule-type", kind)


# As AUTOMATIC1111, Forge and SD.Next write them, beyond what every picture has.
UNUSED = {
    "Clip skip": "2", "Denoising strength": "0.4", "Hires upscale": "2", "Hires steps": "9",
    "Hires upscaler": "Latent", "Variation seed": "7", "Variation seed strength": "0.2", "VAE": "x.pt",
    "VAE hash": "abcd", "ENSD": "31337", "Eta": "0.5", "RNG": "NV", "Refiner": "xl",
    "Refiner switch at": "0.8",
    "Tiling": "True", "Token merging ratio": "0.5", "Schedule rho": "5", "Sigma churn": "1", "NGMS": "2",
    "Mask blur": "4", "Emphasis": "No norm", "Distilled CFG Scale": "3.5", "ControlNet 0": "canny",
    "Pad conds": "True", "Never heard of": "it",
}  # fmt: skip


@pytest.mark.parametrize("key", UNUSED)
def test_a_parameter_that_is_not_used_is_named(ask: Ask, key: str) -> None:
    asked = ask(text=f"a\n{END}, {key}: {UNUSED[key]}")
    assert asked.notices == (f"of the picture's parameters these are not used: {key} {UNUSED[key]}",)


def test_parameters_that_change_nothing_are_not_named(ask: Ask) -> None:
    neutral = "Clip skip: 1, RNG: CPU, ENSD: 0, Variation seed strength: 0, User: me"
    assert ask(text=f"a\n{END}, {neutral}").notices == ()


def test_a_picture_of_another_program_is_not_promised(ask: Ask) -> None:
    assert ask(text=f"a\n{FOREIGN}").notices == (
        "the picture was made by another program: expect a similar one, not the same",
    )


def test_a_scale_below_1_is_what_it_does(ask: Ask) -> None:
    asked = ask("--prompt", "a", "--scale", "0.5")
    assert asked.job.scale == 1.0
    assert asked.notices == ("CFG scale 0.5 is taken as 1: below 1 there is no guidance here",)


def test_a_negative_prompt_that_is_not_read_is_said(ask: Ask) -> None:
    assert "reads no negative prompt" in ask("--prompt", "a", "--negative", "b").notices[0]
    for more in (["--weak-prompt", "Negative"], ["--mode", "CFG"]):
        assert ask("--prompt", "a", "--negative", "b", *more).notices == ()
    assert ask("--prompt", "a", "--negative", "b", loras=()).notices == (), "plain CFG reads it"
    (said,) = ask("--prompt", "a", "--negative", "b", "--base-checkpoint", "x", loras=()).notices
    assert "reads no negative prompt" in said


SYNTAX = {
    "a (red:1.4) star": "(a:1.4) attention", "a (red) star": "(a) attention", "a [red] star": "[a] attention",
    "a BREAK b": "BREAK", "a AND b": "AND", "a [red:blue:0.5] star": "[a:b:0.5] editing",
    "a [:blue:5] star": "[a:b:0.5] editing", "a [red|blue] star": "[a|b] alternation",
    "a {red|blue} star": "{a|b} wildcards", "a __colour__ star": "__a__ wildcards", r"a \(b\)": r"\( escapes",
}  # fmt: skip


@pytest.mark.parametrize("prompt", SYNTAX)
def test_syntax_of_webuis_is_named_once(ask: Ask, prompt: str) -> None:
    said = (f"WebUI syntax in the prompts is drawn as words here: {SYNTAX[prompt]}",)
    asked = ask("--prompt", f"{prompt}, {prompt}", "--negative", prompt, "--mode", "CFG")
    assert asked.notices == said
    assert asked.job.prompt == f"{prompt}, {prompt}"
    assert ask("--prompt", "a", "--negative", prompt, "--mode", "CFG").notices == said


def test_words_are_not_taken_for_syntax(ask: Ask) -> None:
    words = "a star, 5:1 AN_D breaks; and so on: __init__ is {one} thing"
    assert ask("--prompt", words.replace("__init__ ", "")).notices == ()


def test_a_tag_in_the_negative_prompt_is_named(ask: Ask) -> None:
    asked = ask("--prompt", "a", "--negative", "<lora:bad:1>", "--mode", "CFG")
    assert asked.notices == ("WebUI syntax in the prompts is drawn as words here: <kind:name> tags",)


FOOOCUS = {
    "prompt": "a star", "negative_prompt": "bad", "steps": 30, "seed": "5", "metadata_scheme": "fooocus",
    "resolution": "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "guidance_scale": 4.0,
    "loras": [["dog.safetensors", 0.5, "0123456789"]], "lora_combined_1": "dog : 0.5", "sharpness": 2.0,
    "base_model": "juggernaut.safetensors", "base_model_hash": "abcdef0123", "version": "Fooocus v2.5",
    "styles": "['Sharp']", "refiner_model": "None",
}  # fmt: skip
SWARM = {
    "sui_image_params": {
        "prompt": "a star", "negativeprompt": "bad", "steps": 30, "seed": 5, "width": 1152, "height": 896,
        "sampler": "dpmpp_2m_sde", "scheduler": "karras", "cfgscale": 4.0, "loras": ["sub/dog"],
        "loraweights": ["0.5"], "model": "sub/juggernaut.safetensors", "swarm_version": "0.9", "images": 1,
        "sharpness": 2.0,
    },
    "sui_extra_data": {},
}  # fmt: skip


@pytest.mark.parametrize("content", [FOOOCUS, SWARM], ids=["Fooocus", "Swarm"])
def test_pictures_of_other_programs_are_read(ask: Ask, content: dict[str, object]) -> None:
    asked = ask(text=json.dumps(content))
    job = asked.job
    assert (job.prompt, job.negative, job.steps, job.seed, job.scale) == ("a star", "bad", 30, 5, 4.0)
    assert (job.width, job.height, job.sampler, job.schedule_type) == (1152, 896, "DPM++ 2M SDE", "Karras")
    assert _uses(asked) == [("dog", None, 0.5, Own())]
    assert asked.picture is not None and asked.picture.model == "juggernaut"
    unused = next(notice for notice in asked.notices if "not used" in notice)
    assert "sharpness 2.0" in unused
    assert ("styles ['Sharp']" in unused) == (content is FOOOCUS)


@pytest.mark.parametrize("text", ['{"x": 1}', '{"prompt": {"1": {}}}', '{"a":' * 2000 + "1" + "}" * 2000])
def test_json_of_an_unknown_program_is_one_line(ask: Ask, text: str) -> None:
    with pytest.raises(UsageError, match="the picture's parameters"):
        ask(text=text)


def test_a_prompt_may_begin_with_a_brace(ask: Ask) -> None:
    assert ask(text=f"{{a|b}} star\n{END}").job.prompt == "{a|b} star"


def test_a_network_is_asked_for_as_it_is_written(ask: Ask) -> None:
    assert LoraUse("dog", 0.8, 0.5, Own(0.25)).tag() == "<lora:dog:0.5:0.8:pg=0.25>"


def test_a_long_list_of_hashes_is_read_at_once(ask: Ask) -> None:
    """Searched for pairs from each of its letters, this one took hours."""
    asked = ask(text=f"a star\n{END}, Lora hashes: {'a' * 500_000}")
    assert asked.picture and asked.picture.lora_hashes == {}


def test_a_network_that_was_replaced_is_read_anew(ask: Ask, tmp_path: Path) -> None:
    """`serve` answers more than one request."""
    text = f'a star <lora:dog:1>\n{END}, Lora hashes: "dog: {hashlib.sha256(b"dog").hexdigest()[:10]}"'
    assert not ask(text=text).notices
    path = tmp_path / "other" / "dog.safetensors"
    path.parent.mkdir()
    for content, notices in ((b"dog", 0), (b"another dog", 1), (b"dog", 0)):
        path.write_bytes(content)
        os.utime(path, ns=(0, len(content)))
        assert len(ask("--lora", str(path), text=text, loras=()).notices) == notices
