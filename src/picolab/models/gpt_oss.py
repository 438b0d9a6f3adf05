"""gpt-oss, reduced: alternating full and sliding-window attention with sinks. OpenAI 2025, arXiv:2508.10925.

    tokens -> n_layers x [x + attention(norm(x)); x + feed(norm(x))] -> norm -> logits
    even layers see the last `window` tokens only, odd layers see all; each head may give its attention to a sink instead

The reduced form keeps rotary positions, grouped heads, windows and sinks; the feed-forward is one dense SwiGLU where the published
model routes tokens to experts, and attention has no biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.parts.attention import Sight, check_heads, look, mix, split_heads
from picolab.parts.cache import KeyValueCache
from picolab.parts.embedding import Embedding
from picolab.parts.feedforward import GatedFeedForward
from picolab.parts.head import Head
from picolab.parts.init import init_normal, shrink_residual
from picolab.parts.norm import RMSNorm
from picolab.parts.rope import Rope, Rotation, rotate
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of a reduced gpt-oss; `window` 0 lets every layer see everything.

    `n_kv_heads` 0 means n_heads, `head_dim` 0 means d_model / n_heads.
    """

    vocab_size: int = 50257
    context_length: int = 1024
    d_model: int = 512
    n_layers: int = 8
    n_heads: int = 8
    n_kv_heads: int = 0
    head_dim: int = 0
    d_ff: int = 2048
    window: int = 128
    sinks: bool = True
    rope_theta: float = 150000.0
    norm_eps: float = 1e-5
    tied: bool = False

    def __post_init__(self) -> None:
        check_heads(self)
        if self.window < 0:
            raise BadSetting(f"window {self.window} is negative", hint="window 0 lets every layer see everything")


class Attention(nn.Module):
    """Rotated grouped heads; even layers look through a window, and every head has a sink."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads, self.n_kv_heads = layer, config.n_heads, config.n_kv_heads
        self.window = config.window if config.window and layer % 2 == 0 else None
        self.sinks = nn.Parameter(torch.zeros(config.n_heads)) if config.sinks else None
        self.q_proj = nn.Linear(config.d_model, config.n_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.out_proj = nn.Linear(config.n_heads * config.head_dim, config.d_model, bias=False)

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        q = tap(self, "q", split_heads(self.q_proj(x), self.n_heads))
        k = tap(self, "k", split_heads(self.k_proj(x), self.n_kv_heads))
        v = tap(self, "v", split_heads(self.v_proj(x), self.n_kv_heads))
        q, k = tap(self, "q_rope", rotate(q, turn)), tap(self, "k_rope", rotate(k, turn))
        mixed = mix(self, self.layer, q, k, v, sight, window=self.window, sinks=self.sinks)
        return tap(self, "out", self.out_proj(mixed))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each reading a normed copy of the stream and adding to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = GatedFeedForward(config.d_model, config.d_ff)

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        h = tap(self, "attention_norm", self.attention_norm(x))
        x = tap(self, "resid_mid", x + self.attention(h, sight, turn))
        h = tap(self, "mlp_norm", self.mlp_norm(x))
        return tap(self, "resid_post", x + self.mlp(h))


class GptOss(LanguageModel):
    """The whole model."""

    architecture = "gpt_oss"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(config.vocab_size, config.d_model, tied=config.tied)
        self.rope = Rope(config.context_length, config.head_dim, config.rope_theta)
        blocks = [Block(config, layer) for layer in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = Head(config.d_model, config.vocab_size)
        init_normal(self)
        shrink_residual((w for b in blocks for w in (b.attention.out_proj, b.mlp.down_proj)), config.n_layers)
        if config.tied:
            self.head.weight = self.embedding.weight

    def features(
        self, tokens: Tokens, *, cache: KeyValueCache | None = None, documents: Documents | None = None
    ) -> Stream:
        sight = look(tokens, context_length=self.config.context_length, documents=documents, cache=cache)
        turn = self.rope(sight.positions)
        x = tap(self, "embed", self.embedding(tokens))
        for block in self.blocks:
            x = block(x, sight, turn)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return tap(self, "final_norm", self.final_norm(x))

    def new_cache(self, batch_size: int, capacity: int) -> KeyValueCache:
        c = self.config
        return KeyValueCache.of(self.head.weight, c.n_layers, batch_size, capacity, c.n_kv_heads, c.head_dim)
