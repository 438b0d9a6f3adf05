"""Attention that is written down instead of learned: GPT-2's block with rotary positions, its attention frozen where asked.

    q = W_q x + b_q,  k = W_k x + b_k      with W_q = W_k = 0 a head looks at a place, whatever the tokens are:
                                           under RoPE two constant vectors score by distance alone
    v = W_v x,  out = W_o mixed            what is copied from there

The numbers come from corpus counts (`counts/closed_form.py`); here is only what computes with them. `digest` is the hash of what
was frozen: a checkpoint whose frozen numbers are others is refused, so no initialisation can have overwritten them unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from picolab.errors import BadCheckpoint, BadSetting, UnknownName
from picolab.models.contract import LanguageModel
from picolab.parts.attention import Sight, look, mix, split_heads, width_of_heads
from picolab.parts.cache import KeyValueCache
from picolab.parts.embedding import Embedding
from picolab.parts.feedforward import FeedForward, gelu
from picolab.parts.head import Head
from picolab.parts.init import init_normal, shrink_residual
from picolab.parts.norm import LayerNorm
from picolab.parts.rope import Rope, Rotation, rotate
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens

ATTENTION = {
    "usual": "random, as every other model starts",
    "zero": "no attention at all: the control below",
    "random": "random, meant to be frozen",
    "uniform": "copies from everywhere alike: the values of `counted` without its places",
    "offsets": "looks at chosen distances, random values",
    "counted": "looks at distances chosen from counts and, where words are many, through a window; values copied, or from counts",
    "published": "an earlier recipe: queries and keys from normalised counts, rescaled until attention is uniform",
}
CORRECTIONS = {
    "embedding": "computed from the model's own embedding; as published, its vectors were drawn anew afterwards",
    "direction": "queries look for what precedes them; as published, for what follows them, which lies ahead",
    "scale": "matrices as large as they come out; as published, brought to a standard deviation of 0.01",
}
"""What can be put right in the earlier recipe, each alone or several joined by `+`."""
EMBEDDING = {
    "usual": "random, as every other model starts",
    "counted": "orthogonal where there is room, else from neighbours in the corpus",
    "random": "Gaussian directions, all equally long",
    "gram-schmidt": "one orthonormal basis after another",
    "annealing": "nearly orthogonal: one row moved at a time",
    "gradient": "nearly orthogonal: by descent",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of a GPT-2 with rotary positions; `attention` and `embedding` say what training fills in before it begins.

    `corrected` names corrections of the earlier recipe, and concerns no other.
    """

    vocab_size: int = 50257
    context_length: int = 256
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 2
    head_dim: int = 0
    d_ff: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True
    learned_positions: bool = True
    attention: str = "counted"
    embedding: str = "counted"
    frozen: bool = True
    corrected: str = ""

    def __post_init__(self) -> None:
        if not self.head_dim:
            object.__setattr__(self, "head_dim", width_of_heads(self.d_model, self.n_heads))
        if self.head_dim % 2:
            raise BadSetting(
                f"head_dim {self.head_dim} is odd", hint="rotary positions turn pairs of lanes: make it even"
            )
        if self.attention not in ATTENTION:
            raise UnknownName("attention", self.attention, ATTENTION)
        if self.embedding not in EMBEDDING:
            raise UnknownName("embedding", self.embedding, EMBEDDING)
        for word in self.corrections:
            if word not in CORRECTIONS:
                raise UnknownName("correction of the earlier recipe", word, CORRECTIONS)
        if self.corrections and self.attention != "published":
            raise BadSetting(
                f"`corrected` {self.corrected} concerns the earlier recipe, not attention `{self.attention}`",
                hint="attention published, or leave `corrected` out",
            )

    @property
    def corrections(self) -> frozenset[str]:
        """The words of `corrected`."""
        return frozenset(self.corrected.split("+") if self.corrected else ())


class Attention(nn.Module):
    """Rotary attention with constant parts of queries and keys, which only a written-down head has."""

    q_bias: Tensor
    k_bias: Tensor

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads = layer, config.n_heads
        width = config.n_heads * config.head_dim
        self.q_proj = nn.Linear(config.d_model, width, bias=False)
        self.k_proj = nn.Linear(config.d_model, width, bias=False)
        self.v_proj = nn.Linear(config.d_model, width, bias=False)
        self.out_proj = nn.Linear(width, config.d_model, bias=False)
        learned = not config.frozen and config.attention in ("offsets", "counted")
        for name in ("q_bias", "k_bias"):
            if learned:
                self.register_parameter(name, nn.Parameter(torch.zeros(width)))
            else:
                self.register_buffer(name, torch.zeros(width))

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        q, k, v = (
            split_heads(part, self.n_heads)
            for part in (
                self.q_proj(x)
                + self.q_bias.to(x.dtype),  # a buffer stays as it was made when weights are kept in halves
                self.k_proj(x) + self.k_bias.to(x.dtype),
                self.v_proj(x),
            )
        )
        q, k, v = tap(self, "q", q), tap(self, "k", k), tap(self, "v", v)
        q, k = tap(self, "q_rope", rotate(q, turn)), tap(self, "k_rope", rotate(k, turn))
        return tap(self, "out", self.out_proj(mix(self, self.layer, q, k, v, sight)))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each reading a normed copy of the stream and adding to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, gelu, bias=True)

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        h = tap(self, "attention_norm", self.attention_norm(x))
        x = tap(self, "resid_mid", x + self.attention(h, sight, turn))
        h = tap(self, "mlp_norm", self.mlp_norm(x))
        return tap(self, "resid_post", x + self.mlp(h))


class Counted(LanguageModel):
    """The whole model."""

    architecture = "counted"
    digest: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(config.vocab_size, config.d_model, tied=config.tied)
        self.position_embedding = (
            nn.Embedding(config.context_length, config.d_model) if config.learned_positions else None
        )
        self.rope = Rope(config.context_length, config.head_dim, config.rope_theta)
        blocks = [Block(config, layer) for layer in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = LayerNorm(config.d_model, config.norm_eps)
        self.head = Head(config.d_model, config.vocab_size)
        init_normal(self)
        shrink_residual((w for b in blocks for w in (b.attention.out_proj, b.mlp.down_proj)), config.n_layers)
        if config.tied:
            self.head.weight = self.embedding.weight
        if config.frozen:
            for block in blocks:
                block.attention.requires_grad_(False)
        self.register_buffer("digest", torch.zeros(32))  # bytes as numbers: exact in every type a checkpoint may have
        self.register_load_state_dict_post_hook(lambda module, keys: self.check_frozen())

    def features(
        self, tokens: Tokens, *, cache: KeyValueCache | None = None, documents: Documents | None = None
    ) -> Stream:
        sight = look(tokens, context_length=self.config.context_length, documents=documents, cache=cache)
        turn = self.rope(sight.positions)
        x = self.embedding(tokens)
        if self.position_embedding is not None:
            x = x + self.position_embedding(sight.positions)
        x = tap(self, "embed", x)
        for block in self.blocks:
            x = block(x, sight, turn)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return tap(self, "final_norm", self.final_norm(x))

    def new_cache(self, batch_size: int, capacity: int) -> KeyValueCache:
        c = self.config
        return KeyValueCache.of(self.head.weight, c.n_layers, batch_size, capacity, c.n_heads, c.head_dim)

    def seal(self) -> None:
        """Note the hash of what is frozen: from now on a state with other numbers is refused."""
        if self.config.frozen:
            self.digest.copy_(self._hash())

    def check_frozen(self) -> None:
        """Raise `BadCheckpoint` where frozen numbers are not those that were sealed. Nothing was sealed in a fresh model, and
        numbers kept in a shorter type than float32 are others by intent."""
        whole = all(tensor.dtype == torch.float32 for _, tensor in self._frozen())
        if whole and self.digest.any() and not torch.equal(self.digest.cpu(), self._hash()):
            raise BadCheckpoint(
                "the frozen attention is not the one that was computed from counts",
                hint="something has overwritten it since: train again, or count again",
            )

    def _hash(self) -> Tensor:
        found = hashlib.sha256()
        for _, tensor in sorted(self._frozen(), key=lambda named: named[0]):
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return torch.tensor(list(found.digest()), dtype=torch.float32)

    def _frozen(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in (*self.named_parameters(), *self.named_buffers()):
            if ".attention." in name:
                yield name, tensor
