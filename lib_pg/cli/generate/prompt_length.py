"""What of a prompt a model does not read: text encoders take a fixed number of tokens."""

from __future__ import annotations

from typing import Any

_SHOWN = 60


def length_notice(pipeline: Any, **prompts: str) -> str:
    """Return a sentence on prompts that are too long for the model; empty where all of them are read.

    Args:
        pipeline: a diffusers pipeline with a tokenizer.
        prompts: what users call each prompt, and the prompt.
    """
    tokenizer = pipeline.tokenizer or pipeline.tokenizer_2
    most = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    said = []
    for name, prompt in prompts.items():
        tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        if len(tokens) > most:
            rest = tokenizer.decode(tokens[most:]).strip()
            cut = "..." if len(rest) > _SHOWN else ""
            said.append(
                f"the model reads the first {most} of the {len(tokens)} tokens of the {name} prompt, not "
                f"{rest[:_SHOWN] + cut!r}"
            )
    return "; ".join(said)
