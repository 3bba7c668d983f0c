"""What has a grammar, drawn by Hypothesis: refused in a sentence, or used and said; nothing else comes out.

Each function takes one drawn input. `CHECKS` has them by name, each with what draws its input.
"""

from __future__ import annotations

import io
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from PIL import ExifTags, Image

from lib_pg.cli.errors import UsageError
from lib_pg.cli.generate.reading import read_picture
from lib_pg.cli.picture_files import read_parameters
from lib_pg.cli.png_text import MAX_TEXT_BYTES, PngTextError, parse
from lib_pg.hosts.a1111.sampling_pass import A1111Pass
from lib_pg.hosts.webui.generation import WebuiGuidance
from lib_pg.hosts.webui.null_prompts import NullPrompts
from lib_pg.infotext import from_infotext
from lib_pg.page.axes import axes, cell_of, overrides_of, with_overrides
from lib_pg.page.paste import Complaint, Restore
from lib_pg.page.presets import MAX_BYTES, PresetError, PresetStore
from lib_pg.prompt import WEAK_STRENGTHS, parse_networks, split_tags
from lib_pg.settings import CONTROLS, Settings, SettingsError, check_switch
from tests.hostile import strategies
from tests.hosts.a1111.guided import dog, hooks, plain
from tests.hosts.a1111.stand_in import Model, Processing, host, sample

RUN = {"prompts": ["a dog"], "pictures": 1, "steps": 3}


class Room:
    """What the checks share: a host with a network in its model, and a folder."""

    def __init__(self, model: Model, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.plain = plain(model, **RUN)
        self.null_prompts = NullPrompts()


@contextmanager
def room(folder: Path) -> Iterator[Room]:
    with host([dog()]) as model:
        yield Room(model, folder)


def _generation(at: Room, args: Any, overrides: dict[str, Any] | None = None, tag: str = "") -> Processing:
    """Run the host as its script calls it; see that nothing is claimed that did not run."""
    p = Processing()
    p.pg_overrides = overrides or {}  # type: ignore[attr-defined]

    def read() -> Settings:
        chosen = Settings.from_args(args).to_dict()
        if not overrides:
            check_switch(args)
        return Settings.from_dict(with_overrides(chosen, overrides_of(p)))

    said: list[str] = []
    guidance = WebuiGuidance.start(p, read, A1111Pass, said.append, cell_of(p), null_prompts=at.null_prompts)
    if guidance is None:
        made = plain(at.model, **RUN)
    else:
        guidance.read_ratios({"lora": [_as_host(tag)] if tag else []})
        guidance.write_infotext()
        guidance.begin_pass(at.model)
        made = sample(p, at.model, lambda params: guidance.before_step(params, at.model), **RUN)
        guidance.end_batch()
    assert not hooks(at.model)
    assert not any("fault of its own" in each for each in said), said
    claimed = from_infotext(p.extra_generation_params)
    same = len(made) == len(at.plain) and all(map(torch.equal, made, at.plain))
    if claimed is None:
        assert same or (guidance is not None and _skips(guidance)), "changed without a word"
    elif not _is_cfg(claimed):
        assert not same, f"claims {claimed.non_default()} and changed nothing"
    return p


def _is_cfg(settings: Settings) -> bool:
    """Whether settings may be the host's own picture: all of the fine-tune and the user's negative prompt."""
    ratios = {
        settings.weak_ratio,
        settings.weak_ratio if settings.schedule == "Constant" else settings.weak_ratio_end,
    }
    return settings.mode == "CFG" or (settings.weak_prompt == "Negative" and max(ratios) > 1 - 1e-6)


def _skips(guidance: WebuiGuidance) -> bool:
    """Whether the settings leave the weak rows out, which claims no guidance where it never begins."""
    return guidance._settings.outside == "None"


def _as_host(tag: str) -> Any:
    """A tag's arguments as the hosts take them apart."""
    items = tag.split(":")
    named = dict(item.split("=", 1) for item in items if item.count("=") == 1)
    return types.SimpleNamespace(positional=[item for item in items if item.count("=") != 1], named=named)


def args(at: Room, given: Any) -> None:
    _generation(at, given)


def infotexts(at: Room, text: str) -> None:
    pairs = parse(text).pairs
    try:
        settings = from_infotext(pairs)
    except SettingsError as error:
        _one_line(str(error))
        settings = None
    restored = [Restore(name)(pairs) for name in CONTROLS]
    assert restored[0] is (settings is not None)
    if settings is not None:
        assert restored == settings.to_list()
    html = Complaint()(pairs)
    assert "<script" not in html and "<img" not in html
    try:
        picture = read_picture(parse(text), {})
    except UsageError as error:
        assert len(str(error)) < 2000
    else:
        numbers = [value for value in picture.values.values() if isinstance(value, (int, float))]
        assert all(isfinite(value) for value in numbers)
        assert all(len(notice) < 5000 for notice in picture.notices)


_OPTIONS: dict[str, Any] = {
    option.label: option for option in axes(lambda *given, **more: types.SimpleNamespace(
        label=given[0], type=given[1], apply=given[2], **more
    ))
}  # fmt: skip
AXES = st.tuples(
    st.lists(st.tuples(st.sampled_from([*_OPTIONS]), strategies.values.map(str)), min_size=1, max_size=2),
    strategies.valid,
)


def xyz(at: Room, drawn: tuple[list[tuple[str, str]], Settings]) -> None:
    axes_in_use, settings = drawn
    p = Processing()
    for label, text in axes_in_use:
        option = _OPTIONS[label]
        try:
            value = option.type(text)
        except ValueError:
            return  # the host has refused it
        cells = [value]
        option.confirm(p, cells)
        if not cells:
            assert any("no grid is made" in comment for comment in p.comments)
            return
        option.apply(p, value, cells)
    _generation(at, settings.to_list(), overrides_of(p))


def prompts(at: Room, prompt: str) -> None:
    text, networks, others = split_tags(prompt)
    assert len(text) <= len(prompt) and networks == parse_networks(prompt)
    assert all(other in prompt for other in others)
    for network in networks:
        assert isfinite(network.te_strength) and isfinite(network.unet_strength)
        assert network.own.ratio is None or 0 <= network.own.ratio <= 1
        low, high = WEAK_STRENGTHS
        assert network.own.strength is None or low <= network.own.strength <= high
        assert len(network.problem) < 500
    tag = prompt[prompt.find(":") + 1 : prompt.find(">")] if "<" in prompt else ""
    _generation(at, [{"enabled": True, "weak_ratio": 0.3}], tag=tag)


PRESETS = st.tuples(strategies.preset_files(), strategies.anything, strategies.valid)


def presets(at: Room, drawn: tuple[bytes, Any, Settings]) -> None:
    data, name, settings = drawn
    file = at.folder / "presets.json"
    file.write_bytes(data)
    store = PresetStore(at.folder)
    for known in store.names():
        try:
            assert not store.get(known).enabled
        except PresetError as error:
            _one_line(str(error))
    for each in (name, str(name)):
        before = file.read_bytes()
        try:
            kept = store.save(each, settings)
        except PresetError as error:
            _one_line(str(error))
            assert file.read_bytes() == before
        else:
            assert kept in store.names()
            assert store.get(kept).to_dict() | {"enabled": settings.enabled} == settings.to_dict()
        for action in (store.get, store.delete):
            try:
                action(each)
            except PresetError as error:
                _one_line(str(error))
    assert len(file.read_bytes()) <= max(MAX_BYTES, len(data))
    assert [path.name for path in at.folder.iterdir()] == ["presets.json"]


def pictures(at: Room, content: bytes) -> None:
    file = at.folder / "picture.png"
    file.write_bytes(content)
    try:
        text = read_parameters(file)
    except PngTextError as error:
        assert "picture.png" in str(error) or "over 1 MiB" in str(error)
    else:
        assert len(text.encode("utf-8", "surrogatepass")) <= MAX_TEXT_BYTES
        infotexts(at, text)
    finally:
        file.unlink()


def _one_line(message: str) -> None:
    assert len(message) < 1000 and message.isprintable(), message


def _good(form: str) -> bytes:
    exif, stream = Image.Exif(), io.BytesIO()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + "a dog\nSteps: 2".encode(
        "utf-16-be"
    )
    Image.new("RGB", (8, 8)).save(stream, form, exif=exif)
    return stream.getvalue()


PICTURES = strategies.pngs() | strategies.damaged((_good("JPEG"), _good("WEBP"), _good("PNG")))
Check = Callable[[Room, Any], None]
CHECKS: dict[str, tuple[Check, st.SearchStrategy[Any]]] = {
    "args": (args, strategies.api_args()),
    "infotexts": (infotexts, strategies.infotexts()),
    "xyz": (xyz, AXES),
    "prompts": (prompts, strategies.prompts()),
    "presets": (presets, PRESETS),
    "pictures": (pictures, PICTURES),
}
