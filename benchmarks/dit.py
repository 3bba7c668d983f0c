"""Stacks of transformer blocks with the dimensions of Stable Diffusion 3 and Flux, random weights.

What costs time is there: joint attention over picture and text, modulated norms, norms of queries and keys,
a feed-forward part of four times the width. What costs next to none (rotary positions, the embedding of the
time) is not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_PATCH = 2
_HEAD = 64


class DiT(nn.Module):
    """Blocks between a patch embedding and its inverse.

    Args:
        width: features of a token.
        double: blocks in which picture and text have weights of their own (SD 3, Flux).
        single: blocks after them that have one set for both (Flux).
        channels: of the latent picture.
        text_width: features of a token of the text.
        head: features of an attention head.
    """

    def __init__(
        self, width: int, double: int, single: int, channels: int, text_width: int, head: int = _HEAD
    ) -> None:
        super().__init__()
        self.x_embedder = nn.Linear(channels * _PATCH**2, width)
        self.context_embedder = nn.Linear(text_width, width)
        self.transformer_blocks = nn.ModuleList([_Double(width, head) for _ in range(double)])
        self.single_transformer_blocks = nn.ModuleList([_Single(width, head) for _ in range(single)])
        self.proj_out = nn.Linear(width, channels * _PATCH**2)

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Return the prediction for `sample` (rows, channels, height, width)."""
        height, width = sample.shape[2:]
        x = self.x_embedder(functional.pixel_unshuffle(sample, _PATCH).flatten(2).transpose(1, 2))
        text = self.context_embedder(encoder_hidden_states)
        time = functional.silu(timestep.to(x).expand(len(x), x.shape[-1]) * 1e-3)
        for block in self.transformer_blocks:
            x, text = block(x, text, time)
        both = torch.cat([text, x], 1)
        for block in self.single_transformer_blocks:
            both = block(both, time)
        pixels = self.proj_out(both[:, text.shape[1] :]).transpose(1, 2)
        return functional.pixel_shuffle(pixels.unflatten(2, (height // _PATCH, width // _PATCH)), _PATCH)


class _Stream(nn.Module):
    """One side of a block with two sets of weights."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.norm1 = _Modulation(width, 6)
        self.attn = _Attention(width, head)
        self.ff = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def finish(self, x: Tensor, attended: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        x = x + parts[2] * self.attn.to_out(attended)
        return x + parts[5] * self.ff(_modulated(x, parts[3], parts[4]))


class _Double(nn.Module):
    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.picture, self.text = _Stream(width, head), _Stream(width, head)

    def forward(self, x: Tensor, text: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        streams = ((self.text, text), (self.picture, x))
        parts = [stream.norm1(time) for stream, _ in streams]
        found = [
            stream.attn(_modulated(tokens, part[0], part[1]))
            for (stream, tokens), part in zip(streams, parts, strict=True)
        ]
        attended = _attend(*(torch.cat(pair, 2) for pair in zip(*found, strict=True)))
        text_tokens = text.shape[1]
        return (
            self.picture.finish(x, attended[:, text_tokens:], parts[1]),
            self.text.finish(text, attended[:, :text_tokens], parts[0]),
        )


class _Single(nn.Module):
    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.norm = _Modulation(width, 3)
        self.attn = _Attention(width, head, output=False)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale, gate = self.norm(time)
        tokens = _modulated(x, shift, scale)
        attended = _attend(*self.attn(tokens))
        wide = functional.gelu(self.proj_mlp(tokens), approximate="tanh")
        return x + gate * self.proj_out(torch.cat([attended, wide], -1))


class _Modulation(nn.Module):
    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, parts * width)
        self._parts = parts

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        return self.linear(time)[:, None].chunk(self._parts, -1)


class _Attention(nn.Module):
    def __init__(self, width: int, head: int, output: bool = True) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k = nn.RMSNorm(head, eps=1e-6), nn.RMSNorm(head, eps=1e-6)
        self.to_out = nn.Linear(width, width) if output else nn.Identity()
        self._head = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (rows, heads, tokens, features)."""
        q, k, v = (
            layer(x).unflatten(-1, (-1, self._head)).transpose(1, 2)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        return self.norm_q(q), self.norm_k(k), v


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
