"""GPT-2's blocks with linear attention: what was read is one matrix a head. Katharopoulos et al. 2020, arXiv:2006.16236.

tokens + positions -> n_layers x [x + linear_attention(norm(x)); x + feed(norm(x))] -> norm -> logits (head tied to the embedding)

With the sizes of `softmax-pico` and the same parameters: what differs between the two is how tokens look at each other.
`gated` lets each head forget, one gate a token and head (Yang et al. 2023, arXiv:2312.06635).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.parts.attention import positions_of, split_heads, width_of_heads
from picolab.parts.embedding import Embedding
from picolab.parts.feedforward import FeedForward, gelu
from picolab.parts.head import Head
from picolab.parts.init import init_normal, shrink_residual
from picolab.parts.linear_attention import mix_linearly
from picolab.parts.linear_state import LinearState
from picolab.parts.norm import LayerNorm
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens

Opens = Bool[Tensor, "#batch time"]
"""True at the first token of every text: nothing before it is looked at."""

GATE_TEMPERATURE = 16.0
"""Gates are sigmoids to the power 1 / 16 (Yang et al. 2023): a fresh head forgets half of what it read in 16 tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of the decoder; `gated` adds a gate a head, n_heads x (d_model + 1) numbers a layer."""

    vocab_size: int = 50257
    context_length: int = 256
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 2
    d_ff: int = 512
    gated: bool = False
    norm_eps: float = 1e-5
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        width_of_heads(self.d_model, self.n_heads)
        if not 0 <= self.dropout < 1:
            raise BadSetting(f"dropout {self.dropout} is not between 0 and 1", hint="0.1 drops a tenth of the lanes")


class LinearAttention(nn.Module):
    """Multi-head linear attention; one matrix makes q, k and v, a second one the gates."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads = layer, config.n_heads
        self.qkv_proj = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.gate_proj = nn.Linear(config.d_model, config.n_heads) if config.gated else None
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x: Stream, opens: Opens | None, cache: LinearState | None) -> Stream:
        q, k, v = (split_heads(part, self.n_heads) for part in self.qkv_proj(x).chunk(3, dim=-1))
        q, k, v = tap(self, "q", q), tap(self, "k", k), tap(self, "v", v)
        state = None if cache is None else cache.of(self.layer)
        fresh = cache is None or cache.length == 0
        mixed, state = mix_linearly(self, q, k, v, self._log_kept(x, opens), state, fresh=fresh)
        if cache is not None and state is not None:
            cache.put(self.layer, state)
        return tap(self, "out", self.out_proj(mixed))

    def _log_kept(self, x: Stream, opens: Opens | None) -> Float[Tensor, "#batch time #heads"] | None:
        """The logarithm of the share of the past that each token leaves: nothing of it where a text begins."""
        kept = None
        if self.gate_proj is not None:
            gates = self.gate_proj(x).to(torch.promote_types(x.dtype, torch.float32))
            kept = tap(self, "gates", F.logsigmoid(gates) / GATE_TEMPERATURE)
        elif opens is not None:
            kept = torch.zeros(*x.shape[:2], 1, device=x.device)
        if kept is None or opens is None:
            return kept
        return kept.masked_fill(opens[..., None], -torch.inf)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each reading a normed copy of the stream and adding to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.d_model, config.norm_eps)
        self.attention = LinearAttention(config, layer)
        self.mlp_norm = LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, gelu, bias=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Stream, opens: Opens | None, cache: LinearState | None) -> Stream:
        h = tap(self, "attention_norm", self.attention_norm(x))
        x = tap(self, "resid_mid", x + self.dropout(self.attention(h, opens, cache)))
        h = tap(self, "mlp_norm", self.mlp_norm(x))
        return tap(self, "resid_post", x + self.dropout(self.mlp(h)))


class LinearDecoder(LanguageModel):
    """The whole model."""

    architecture = "linear"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(config.vocab_size, config.d_model, tied=config.tied)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        blocks = [Block(config, layer) for layer in range(config.n_layers)]
        self.blocks = cast("list[Block]", nn.ModuleList(blocks))
        self.final_norm = LayerNorm(config.d_model, config.norm_eps)
        self.head = Head(config.d_model, config.vocab_size)
        init_normal(self)
        shrink_residual((w for b in blocks for w in (b.attention.out_proj, b.mlp.down_proj)), config.n_layers)
        if config.tied:
            self.head.weight = self.embedding.weight

    def features(
        self, tokens: Tokens, *, cache: LinearState | None = None, documents: Documents | None = None
    ) -> Stream:
        positions = positions_of(tokens, context_length=self.config.context_length, documents=documents, cache=cache)
        # A row that is one text from its first token on has nothing before it to forget.
        many = documents is not None or (cache is not None and cache.starts is not None)
        opens = positions == 0 if many else None
        x = tap(self, "embed", self.dropout(self.embedding(tokens) + self.position_embedding(positions)))
        for block in self.blocks:
            x = block(x, opens, cache)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return tap(self, "final_norm", self.final_norm(x))

    def new_cache(self, batch_size: int, capacity: int) -> LinearState:
        c = self.config
        return LinearState(
            self.head.weight,
            n_layers=c.n_layers,
            batch_size=batch_size,
            n_heads=c.n_heads,
            head_dim=width_of_heads(c.d_model, c.n_heads),
            capacity=capacity,
        )
