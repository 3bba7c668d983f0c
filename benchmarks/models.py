"""A tokenizer that needs no vocabulary of anybody's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer


def byte_tokenizer(tokens: int = 77) -> CLIPTokenizer:
    """Return a tokenizer that knows single bytes only, for prompts of up to `tokens` with both ends."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*letters, *(f"{x}</w>" for x in letters)])}
    vocabulary |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder) / "vocab.json", Path(folder) / "merges.txt")
        files[0].write_text(json.dumps(vocabulary), encoding="utf-8")
        files[1].write_text("#version: 0.2\n", encoding="utf-8")
        return CLIPTokenizer(*map(str, files), model_max_length=tokens)
