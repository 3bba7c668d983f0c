"""Builds the CLIP tokenizer of the tiny model: one token for each word of the world, bytes for the rest."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

MAX_LENGTH = 16
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
Pair = tuple[str, str]


def _merge(parts: list[str], pair: Pair) -> list[str]:
    """Join every occurrence of a pair of neighbours."""
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def learn_merges(words: list[str]) -> list[Pair]:
    """Byte-pair merges, most frequent pair first, until every word is one piece."""
    pieces = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[Pair] = []
    while any(len(parts) > 1 for parts in pieces):
        counts = Counter(pair for parts in pieces for pair in pairwise(parts))
        best = max(sorted(counts), key=lambda pair: counts[pair])
        merges.append(best)
        pieces = [_merge(parts, best) for parts in pieces]
    return merges


def build_tokenizer(words: list[str], folder: Path) -> CLIPTokenizer:
    """Write vocab.json and merges.txt for these words and load them the stock way."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(words)
    letters = sorted(bytes_to_unicode().values())
    entries = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), BEGIN, END]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(
        folder, bos_token=BEGIN, eos_token=END, pad_token=END, unk_token=END, model_max_length=MAX_LENGTH
    )
