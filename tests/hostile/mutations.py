"""Safetensors files taken apart, changed as a stranger may have, and put together again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F4": 1, "I16": 2, "U16": 2,
    "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F6_E2M3": 1,
}  # fmt: skip
ENDINGS = (
    "lora_down.weight", "lora_up.weight", "lora_mid.weight", "lora_A.weight", "lora_B.weight", "lora_B.bias",
    "alpha", "scale", "scalar", "dora_scale", "lora_magnitude_vector", "diff", "diff_b", "set_weight",
    "set_bias", "w_norm", "b_norm", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2",
    "oft_blocks", "oft_diag", "rescale", "a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight",
    "on_input", "weight", "ia3_l", "oft_R.weight", "boft_R", "emb_params", "weight_scale", "reshape_weight",
    "lora_embedding_A", "lora_embedding_B", "", ".", "bias",
)  # fmt: skip
NAMES = ("", "\n", "\x1b[31m", "x" * 513, "\u202e", "犬", "lora_unet_", "..", "unet.a.b", ".oft_R" * 80 + ".")
HOSTILE_NUMBERS = (0.0, -1.0, 1e30, 3e38, -3e38, 65504.0, 1e-45, float("nan"), float("inf"), float("-inf"))
HOSTILE_TEXTS = (
    "{", "[]", "null", '"a"', "[" * 20_000, '{"a":' * 5_000, '{"unet.lora_alpha": NaN}', "\0", "x" * 100_000,
    '{"unet.alpha_pattern": {"(a+)+b": 1}}', '{"unet.lora_alpha": 1e400}', '{"r": 0, "lora_alpha": 1}',
    '{"unet.r": -1, "unet.lora_alpha": 3, "unet.use_rslora": true}', '{"lora_alpha": ' + "9" * 5000 + "}",
)  # fmt: skip


@dataclass
class Draft:
    """A file's tensors, and its free text."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def mutated(draft: Draft, random: Random, other: Draft) -> bytes:
    """Return a file that is changed in a few places, so that it may still be read, or in its bytes."""
    tensors, metadata = dict(draft.tensors), dict(draft.metadata)
    changed = Draft(tensors, metadata)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        random.choice(OF_TENSORS)(changed, random, other)
    content = save(changed.tensors, changed.metadata)
    if random.random() < 0.35:
        content = random.choice(OF_BYTES)(content, random)
    return content


def _key(draft: Draft, random: Random) -> str:
    return random.choice(list(draft.tensors) or ["none"])


def _drop(draft: Draft, random: Random, other: Draft) -> None:
    draft.tensors.pop(_key(draft, random), None)


def _rename(draft: Draft, random: Random, other: Draft) -> None:
    key = _key(draft, random)
    value = draft.tensors.pop(key, torch.ones(1))
    stem = key.split(".", 1)[0]
    new = random.choice(
        (f"{stem}.{random.choice(ENDINGS)}", random.choice(NAMES) + key, random.choice(NAMES))
    )
    draft.tensors[new] = value


def _another_ending(draft: Draft, random: Random, other: Draft) -> None:
    key = _key(draft, random)
    if key in draft.tensors:
        draft.tensors[f"{key.split('.', 1)[0]}.{random.choice(ENDINGS)}"] = draft.tensors[key].clone()


def _of_another(draft: Draft, random: Random, other: Draft) -> None:
    """Mix kinds: a tensor of another file, under this one's layer."""
    key = _key(other, random)
    stem = _key(draft, random).split(".", 1)[0]
    draft.tensors[f"{stem}.{key.split('.', 1)[-1]}"] = other.tensors[key].clone()


def _shape(draft: Draft, random: Random, other: Draft) -> None:
    key = _key(draft, random)
    value = draft.tensors.get(key)
    if value is None:
        return
    shape = list(value.shape) or [1]
    place = random.randrange(len(shape))
    change = random.choice(("turned", "one more", "flat", "none", "other", "longer", "scalar", "tall"))
    if change == "turned":
        shape.reverse()
    elif change == "one more":
        shape.insert(place, 1)
    elif change == "flat":
        shape = [prod(shape)]
    elif change == "none":
        shape[place] = 0
    elif change == "scalar":
        shape = []
    elif change == "tall":
        shape = [random.choice((4097, 65_537)), 1]
    else:
        shape[place] = random.choice((1, 2, 3, 5, 17)) if change == "other" else shape[place] + 1
    count = prod(shape)
    flat = value.flatten()
    flat = flat if len(flat) else torch.ones(1, dtype=value.dtype)
    repeated = flat.repeat(count // len(flat) + 1) if count else flat
    draft.tensors[key] = repeated[:count].reshape(shape).contiguous()


def _type(draft: Draft, random: Random, other: Draft) -> None:
    key = _key(draft, random)
    types = (
        torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool, torch.uint8,
        torch.float8_e4m3fn, torch.float8_e5m2, torch.int32, torch.int16, torch.complex64,
    )  # fmt: skip
    if key in draft.tensors:
        draft.tensors[key] = draft.tensors[key].to(random.choice(types))


def _values(draft: Draft, random: Random, other: Draft) -> None:
    key = _key(draft, random)
    value = draft.tensors.get(key)
    if value is None or not value.is_floating_point() or not value.numel():
        return
    value = value.float().clone()
    number = random.choice(HOSTILE_NUMBERS)
    if random.random() < 0.5:
        value.view(-1)[random.randrange(value.numel())] = number
    elif random.random() < 0.5:
        value.fill_(number)
    else:
        value *= random.choice((1e-30, 1e10, 1e30, -1e38))
    draft.tensors[key] = value


def _number(draft: Draft, random: Random, other: Draft) -> None:
    stem = _key(draft, random).split(".", 1)[0]
    name = random.choice(("alpha", "scale", "scalar", "on_input"))
    draft.tensors[f"{stem}.{name}"] = torch.tensor(random.choice(HOSTILE_NUMBERS))


def _text(draft: Draft, random: Random, other: Draft) -> None:
    name = random.choice(("lora_adapter_metadata", "ss_base_model_version", "modelspec.architecture", "\0"))
    draft.metadata[name] = random.choice(HOSTILE_TEXTS)


OF_TENSORS: tuple[Callable[[Draft, Random, Draft], None], ...] = (
    _drop, _rename, _another_ending, _of_another, _shape, _shape, _type, _values, _values, _number, _text,
)  # fmt: skip


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a file of this header, given as bytes or as JSON, which may say another length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(header: dict[str, Any], random: Random) -> dict[str, Any]:
    entries = [value for key, value in header.items() if key != "__metadata__"]
    return random.choice(entries) if entries else header.setdefault("a", {})


def _declared_shape(content: bytes, random: Random) -> bytes:
    header, data = _parts(content)
    huge = ([2**62, 8], [10**9, 10**9], [-1], [2**63], [0.5], ["a"], None, [1] * 5000, [2**31, 2], [[1]])
    _entry(header, random)["shape"] = random.choice(huge)
    return joined(header, data)


def _declared_type(content: bytes, random: Random) -> bytes:
    header, data = _parts(content)
    _entry(header, random)["dtype"] = random.choice((*SIZES, "F33", "", None, 3, "f32"))
    return joined(header, data)


def _another_type_that_fits(content: bytes, random: Random) -> bytes:
    """Bytes read as another type: the container stays valid."""
    header, data = _parts(content)
    entry = _entry(header, random)
    dtype = random.choice(list(SIZES))
    first, last = entry.get("data_offsets", (0, 0))
    entry.update(dtype=dtype, shape=[(last - first) // SIZES[dtype]])
    return joined(header, data)


def _offsets(content: bytes, random: Random) -> bytes:
    header, data = _parts(content)
    entry = _entry(header, random)
    first, last = entry.get("data_offsets", (0, 0))
    entry["data_offsets"] = random.choice(
        ([first + 4, last + 4], [0, last], [last, first], [-4, last], [first, 2**63], [first], [], None,
         [first, 1e300], [0.0, 4.0], [2**64, 2**65])
    )  # fmt: skip
    return joined(header, data)


def _raw_header(content: bytes, random: Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    text, data = content[8 : 8 + length], content[8 + length :]
    twice = text.rstrip()[:-1] + b"," + text.strip()[1:]  # every key again
    deep = b'{"__metadata__":' + b'{"a":' * 5_000 + b"}" * 5_001
    other = random.choice(
        (twice, deep, b"[" * 30_000, text.replace(b'"', b"\xff", 1), b"\xef\xbb\xbf" + text,
         text + b" " * 999,
         text.replace(b":", b": NaN,", 1), b"\0" * len(text), text[: len(text) // 2], b"{}",
         b'{"__metadata__":{"a":"' + b"x" * 2**20 + b'"},' + text.strip()[1:],
         text.replace(b'"dtype"', b'"dtype":"F32","dtype"', 1))
    )  # fmt: skip
    return joined(other, data)


def _length(content: bytes, random: Random) -> bytes:
    lengths = (0, 1, 7, len(content), len(content) - 8, 2**25, 2**25 + 1, 2**31, 2**63, 2**64 - 1)
    return struct.pack("<Q", random.choice(lengths)) + content[8:]


def _cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _longer(content: bytes, random: Random) -> bytes:
    return content + bytes(random.randrange(1, 99))


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randrange(1, 9)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


OF_BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    _declared_shape, _declared_type, _another_type_that_fits, _offsets, _raw_header, _length, _cut, _longer,
    _flipped,
)  # fmt: skip


def draft_of(content: bytes, metadata: dict[str, str] | None = None) -> Draft:
    return Draft(load(content), metadata or {})
