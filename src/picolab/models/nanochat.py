"""nanochat: a small decoder with almost no knobs. Karpathy 2025, github.com/karpathy/nanochat.

tokens -> norm -> n_layers x [x + attention(norm(x)); x + feed(norm(x))] -> norm -> softcap(logits)
norms without parameters, rotary positions, then normed queries and keys, relu squared, no bias, untied head
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from picolab.errors import BadSetting
from picolab.models.contract import HuggingFace, LanguageModel
from picolab.parts.attention import Sight, check_heads, look, mix, split_heads
from picolab.parts.cache import KeyValueCache
from picolab.parts.embedding import Embedding
from picolab.parts.feedforward import FeedForward, relu_squared
from picolab.parts.head import Head
from picolab.parts.init import init_normal, shrink_residual
from picolab.parts.norm import RMSNorm
from picolab.parts.rope import Rope, Rotation, rotate
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of a nanochat; `n_kv_heads` 0 means n_heads, `head_dim` 0 means d_model / n_heads."""

    vocab_size: int = 65536
    context_length: int = 2048
    d_model: int = 1280
    n_layers: int = 20
    n_heads: int = 10
    n_kv_heads: int = 0
    head_dim: int = 0
    d_ff: int = 5120
    logit_cap: float = 15.0
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    tied: bool = False

    def __post_init__(self) -> None:
        check_heads(self)
        if self.logit_cap <= 0:
            raise BadSetting(f"logit_cap {self.logit_cap} is not positive", hint="the published value is 15")


class Attention(nn.Module):
    """Rotated grouped heads whose queries and keys are normed after the rotation, so that scores stay bounded."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads, self.n_kv_heads = layer, config.n_heads, config.n_kv_heads
        self.q_proj = nn.Linear(config.d_model, config.n_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.out_proj = nn.Linear(config.n_heads * config.head_dim, config.d_model, bias=False)
        self.qk_norm = RMSNorm(config.head_dim, config.norm_eps, weighted=False)

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        q = tap(self, "q", split_heads(self.q_proj(x), self.n_heads))
        k = tap(self, "k", split_heads(self.k_proj(x), self.n_kv_heads))
        v = tap(self, "v", split_heads(self.v_proj(x), self.n_kv_heads))
        q, k = tap(self, "q_rope", rotate(q, turn)), tap(self, "k_rope", rotate(k, turn))
        q, k = tap(self, "q_norm", self.qk_norm(q)), tap(self, "k_norm", self.qk_norm(k))
        return tap(self, "out", self.out_proj(mix(self, self.layer, q, k, v, sight)))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each reading a normed copy of the stream and adding to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps, weighted=False)
        self.attention = Attention(config, layer)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps, weighted=False)
        self.mlp = FeedForward(config.d_model, config.d_ff, relu_squared, bias=False)

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        h = tap(self, "attention_norm", self.attention_norm(x))
        x = tap(self, "resid_mid", x + self.attention(h, sight, turn))
        h = tap(self, "mlp_norm", self.mlp_norm(x))
        return tap(self, "resid_post", x + self.mlp(h))


class NanoChat(LanguageModel):
    """The whole model."""

    architecture = "nanochat"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(config.vocab_size, config.d_model, tied=config.tied)
        self.embed_norm = RMSNorm(config.d_model, config.norm_eps, weighted=False)
        # The published code turns the other way; scores are the same, the values at the sites are not.
        self.rope = Rope(config.context_length, config.head_dim, config.rope_theta, backwards=True)
        blocks = [Block(config, layer) for layer in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = RMSNorm(config.d_model, config.norm_eps, weighted=False)
        self.head = Head(config.d_model, config.vocab_size, cap=config.logit_cap)
        init_normal(self)
        shrink_residual((w for b in blocks for w in (b.attention.out_proj, b.mlp.down_proj)), config.n_layers)
        if config.tied:
            self.head.weight = self.embedding.weight

    def features(
        self, tokens: Tokens, *, cache: KeyValueCache | None = None, documents: Documents | None = None
    ) -> Stream:
        sight = look(tokens, context_length=self.config.context_length, documents=documents, cache=cache)
        turn = self.rope(sight.positions)
        x = tap(self, "embed", self.embed_norm(self.embedding(tokens)))
        for block in self.blocks:
            x = block(x, sight, turn)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return tap(self, "final_norm", self.final_norm(x))

    def new_cache(self, batch_size: int, capacity: int) -> KeyValueCache:
        c = self.config
        return KeyValueCache.of(self.head.weight, c.n_layers, batch_size, capacity, c.n_kv_heads, c.head_dim)


HUGGING_FACE = HuggingFace(
    model_type="nanochat",
    class_name="NanoChatForCausalLM",
    tensors={
        "embedding.weight": "model.embed_tokens.weight",
        "blocks.{i}.attention.q_proj.weight": "model.layers.{i}.self_attn.q_proj.weight",
        "blocks.{i}.attention.k_proj.weight": "model.layers.{i}.self_attn.k_proj.weight",
        "blocks.{i}.attention.v_proj.weight": "model.layers.{i}.self_attn.v_proj.weight",
        "blocks.{i}.attention.out_proj.weight": "model.layers.{i}.self_attn.o_proj.weight",
        "blocks.{i}.mlp.up_proj.weight": "model.layers.{i}.mlp.fc1.weight",
        "blocks.{i}.mlp.down_proj.weight": "model.layers.{i}.mlp.fc2.weight",
        "head.weight": "lm_head.weight",
    },
    settings={
        "vocab_size": "vocab_size",
        "context_length": "max_position_embeddings",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "n_kv_heads": "num_key_value_heads",
        "head_dim": "head_dim",
        "d_ff": "intermediate_size",
        "logit_cap": "final_logit_softcapping",
        "rope_theta": "rope_theta",
        "norm_eps": "rms_norm_eps",
        "tied": "tie_word_embeddings",
    },
    fixed={"hidden_act": "relu2", "attention_bias": False, "rope_scaling": None},
    defaults={
        "n_kv_heads": 0,
        "head_dim": 0,
        "logit_cap": 15.0,
        "rope_theta": 10000.0,
        "norm_eps": 1e-6,
        "tied": False,
    },
)

NanoChat.hugging_face = HUGGING_FACE
