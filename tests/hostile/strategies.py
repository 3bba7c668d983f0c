"""What strangers may write where something has a grammar: by the rules, nearly so, and anything at all."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from hypothesis import strategies as st

from lib_pg.settings import CONTROLS
from tests.settings_strategies import CHOICES, valid_settings

_HOSTILE_TEXTS = (
    "",
    " ",
    "None",
    "null",
    "0.5",
    "1e400",
    "-1",
    "NaN",
    "٣",
    "1_0",
    "0x1",
    "\uff19",
    "true",
    "../../etc/passwd",
    "C:\\x",
    "<script>alert(1)</script>",
    "<img src=x onerror=y>",
    "\0",
    "\x1b[31m",
    "\ud800",
    "\u202ea",
    "a\nb",
    "x" * 5000,
    "9" * 5000,
    "%s%n",
    "{0.__class__}",
    "=1+1",
    "犬",
    "dog, " * 500,
    "http://localhost/x",
    "\\\\h\\s",
)
texts = st.sampled_from(_HOSTILE_TEXTS) | st.text(max_size=40)
numbers = (
    st.floats(allow_nan=True, allow_infinity=True)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 0.5, -0.0, 1.0000001, 10**400])
)
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from([*CONTROLS, "weak-ratio", "Enabled", "", "omega"]) | texts
choices = st.sampled_from([choice for values in CHOICES.values() for choice in values])
values = anything | choices | st.floats(0, 1)
valid = valid_settings(st.booleans())


@st.composite
def api_args(draw: st.DrawFn) -> Any:
    """The `args` of an API call: good settings with something wrong in them, or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(anything | st.lists(values, max_size=15))
    given = draw(valid).to_dict()
    for name in draw(st.lists(st.sampled_from([*CONTROLS]), max_size=2)):
        given[name] = draw(values)
    if draw(st.booleans()):
        positional = list(given.values())[: draw(st.integers(0, len(given)))]
        return positional + draw(st.lists(anything, max_size=1))
    for name in draw(st.lists(st.sampled_from([*CONTROLS]), max_size=4)):
        given.pop(name, None)
    return [
        {**given, **draw(st.dictionaries(names, values, max_size=1))},
        *draw(st.lists(anything, max_size=2)),
    ]


_KEYS = [key for control in CONTROLS.values() if (key := control.infotext_key)]
_OTHERS = [
    "Steps",
    "Seed",
    "Size",
    "CFG scale",
    "Sampler",
    "Model",
    "Lora hashes",
    "Batch pos",
    "Version",
    "Schedule type",
    "Batch size",
    "PG weak memory",
    "PG",
    "Negative prompt",
    "Precision",
    "Model hash",
]
_pair = st.tuples(st.sampled_from([*_KEYS, *_KEYS, *_OTHERS]) | texts, texts | choices | numbers.map(str))


@st.composite
def infotexts(draw: st.DrawFn) -> str:
    """The text of a picture: prompts and a line of pairs, quoted or not."""
    lines = draw(st.lists(texts | prompts(), max_size=3))
    pairs = [
        f"{key}: {json.dumps(value) if draw(st.booleans()) else value}"
        for key, value in draw(st.lists(_pair, max_size=12))
    ]
    if draw(st.booleans()):
        pairs = ["Steps: 20", "Sampler: Euler a", "CFG scale: 7", "Seed: 1", "Size: 64x64", *pairs]
    return "\n".join([*lines, ", ".join(pairs)])


_argument = (
    st.sampled_from(
        ["1", "0.8", "pg=0.3", "weak=0.4", "PG = 1", "pg=0=1", "te=0.5", "unet=nan", "dyn=8", "", "="]
    )
    | texts
)


@st.composite
def prompts(draw: st.DrawFn) -> str:
    """A prompt with tags of networks, whole and broken."""
    parts = draw(st.lists(texts | st.just("a dog "), max_size=3))
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["lora", "lyco", "hypernet", "LORA", ""]))
        arguments = draw(st.lists(_argument, max_size=5))
        tag = f"<{':'.join([kind, draw(st.sampled_from(['dog', 'style']) | texts), *arguments])}>"
        parts.insert(0, tag[: -1 if draw(st.integers(0, 5)) == 0 else None])
    return "".join(parts)


@st.composite
def preset_files(draw: st.DrawFn) -> bytes:
    """The file of presets: JSON of good and bad ones, or bytes."""
    form = draw(st.integers(0, 9))
    if form == 0:
        return draw(st.binary(max_size=60))
    if form == 1:
        deep = draw(st.integers(1, 3000))
        return draw(
            st.sampled_from(
                [
                    b"[" * deep + b"]" * deep,
                    b'{"a":' * deep + b"1" + b"}" * deep,
                    b'{"a": ' + b"9" * deep + b"}",
                    b'{"a":{"weak_ratio":' + b"9" * deep + b"}}",
                ]
            )
        )
    kept = {}
    for name in draw(st.lists(texts, max_size=5)):
        kept[name] = draw(valid).to_dict() if draw(st.booleans()) else draw(anything)
        if isinstance(kept[name], dict) and draw(st.booleans()):
            kept[name] |= draw(st.dictionaries(names, values, max_size=2))
    data = json.dumps(kept, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return data if draw(st.integers(0, 4)) else data[: draw(st.integers(0, len(data)))]


def chunk(kind: bytes, data: bytes, right: bool = True) -> bytes:
    """One of a PNG's chunks, with the right check sum or a wrong one."""
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ (not right))
    )


_header = st.tuples(
    st.sampled_from([0, 1, 8, 2**14, 2**15, 2**31 - 1, 2**32 - 1]),
    st.sampled_from([0, 1, 8, 2**16, 2**32 - 1]),
    st.sampled_from([0, 1, 8, 16, 255]),
    st.sampled_from([0, 2, 3, 4, 6, 7]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
).map(lambda fields: struct.pack(">IIBBBBB", *fields))
_good_header = st.just(struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
_KINDS = [
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"eXIf",
    b"iCCP",
    b"gAMA",
    b"cHRM",
    b"pHYs",
    b"acTL",
    b"fcTL",
    b"tRNS",
    b"PLTE",
    b"sRGB",
    b"sBIT",
    b"IDAT",
    b"IEND",
    b"IHDR",
    b"CgBI",
    b"\0\0\0\0",
]


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    """A PNG of good and bad chunks, perhaps cut."""
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", draw(_good_header | _header))
    text = draw(infotexts() | texts).encode("utf-8", "surrogatepass")
    forms = {
        b"tEXt": b"parameters\0" + text,
        b"zTXt": b"parameters\0\0" + zlib.compress(text * draw(st.sampled_from([1, 1, 1, 5000]))),
        b"iTXt": b"parameters\0" + draw(st.sampled_from([b"\0\0", b"\1\0", b"\1\1"])) + b"\0\0" + text,
        b"eXIf": b"II*\0\x08\0\0\0" + draw(st.binary(max_size=40)),
    }
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([*forms, *_KINDS]))
        data = forms[kind] if kind in forms and draw(st.booleans()) else draw(st.binary(max_size=40))
        content += chunk(kind, data, draw(st.integers(0, 9)) > 0)
    content += chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    return content if draw(st.integers(0, 4)) else content[: draw(st.integers(0, len(content)))]


@st.composite
def damaged(draw: st.DrawFn, contents: tuple[bytes, ...]) -> bytes:
    """A good file with a few bytes that are others, or cut."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 6))):
        content[draw(st.integers(0, min(len(content), 400) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])
