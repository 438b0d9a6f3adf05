"""Mistral: Llama that looks back through a window. Jiang et al. 2023, arXiv:2310.06825.

tokens -> n_layers x [x + attention(norm(x)); x + feed(norm(x))] -> norm -> logits
every layer sees the last `window` tokens; what lies before reaches a token through the layers below
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from picolab.errors import BadInput
from picolab.models.contract import Gguf, HuggingFace, LanguageModel
from picolab.parts.attention import Sight, check_heads, look, mix, split_heads
from picolab.parts.cache import KeyValueCache
from picolab.parts.embedding import Embedding
from picolab.parts.feedforward import GatedFeedForward
from picolab.parts.head import Head
from picolab.parts.init import init_normal, shrink_residual
from picolab.parts.norm import RMSNorm
from picolab.parts.rope import Rope, RopeScaling, Rotation, rotate
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of a Mistral; `window` 0 lets every token see all before it, as its later members do.

    `n_kv_heads` 0 means n_heads, `head_dim` 0 means d_model / n_heads.
    """

    vocab_size: int = 32000
    context_length: int = 32768
    d_model: int = 4096
    n_layers: int = 32
    n_heads: int = 32
    n_kv_heads: int = 8
    head_dim: int = 0
    d_ff: int = 14336
    window: int = 4096
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tied: bool = False

    def __post_init__(self) -> None:
        check_heads(self)


class Attention(nn.Module):
    """Queries in `n_heads` heads over keys and values in `n_kv_heads`, rotated by position, through a window."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads, self.n_kv_heads = layer, config.n_heads, config.n_kv_heads
        self.window = config.window or None
        self.q_proj = nn.Linear(config.d_model, config.n_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.n_kv_heads * config.head_dim, bias=False)
        self.out_proj = nn.Linear(config.n_heads * config.head_dim, config.d_model, bias=False)

    def forward(self, x: Stream, sight: Sight, turn: Rotation) -> Stream:
        q = tap(self, "q", split_heads(self.q_proj(x), self.n_heads))
        k = tap(self, "k", split_heads(self.k_proj(x), self.n_kv_heads))
        v = tap(self, "v", split_heads(self.v_proj(x), self.n_kv_heads))
        q, k = tap(self, "q_rope", rotate(q, turn)), tap(self, "k_rope", rotate(k, turn))
        return tap(self, "out", self.out_proj(mix(self, self.layer, q, k, v, sight, window=self.window)))


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


class Mistral(LanguageModel):
    """The whole model."""

    architecture = "mistral"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(config.vocab_size, config.d_model, tied=config.tied)
        self.rope = Rope(config.context_length, config.head_dim, config.rope_theta, config.rope_scaling)
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


HUGGING_FACE = HuggingFace(
    model_type="mistral",
    class_name="MistralForCausalLM",
    tensors={
        "embedding.weight": "model.embed_tokens.weight",
        "blocks.{i}.attention_norm.weight": "model.layers.{i}.input_layernorm.weight",
        "blocks.{i}.attention.q_proj.weight": "model.layers.{i}.self_attn.q_proj.weight",
        "blocks.{i}.attention.k_proj.weight": "model.layers.{i}.self_attn.k_proj.weight",
        "blocks.{i}.attention.v_proj.weight": "model.layers.{i}.self_attn.v_proj.weight",
        "blocks.{i}.attention.out_proj.weight": "model.layers.{i}.self_attn.o_proj.weight",
        "blocks.{i}.mlp_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "blocks.{i}.mlp.gate_proj.weight": "model.layers.{i}.mlp.gate_proj.weight",
        "blocks.{i}.mlp.up_proj.weight": "model.layers.{i}.mlp.up_proj.weight",
        "blocks.{i}.mlp.down_proj.weight": "model.layers.{i}.mlp.down_proj.weight",
        "final_norm.weight": "model.norm.weight",
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
        "window": "sliding_window",
        "rope_theta": "rope_theta",
        "norm_eps": "rms_norm_eps",
        "tied": "tie_word_embeddings",
    },
    fixed={"hidden_act": "silu"},
    defaults={"n_kv_heads": 8, "head_dim": 0, "rope_theta": 10000.0, "norm_eps": 1e-6, "tied": False, "window": 4096},
    nulls={"window": 0},
    ignored=frozenset({"model.layers.{i}.self_attn.rotary_emb.inv_freq"}),
)


def check_gguf(config: Config) -> None:
    """A Mistral whose window is never reached is a Llama, and llama.cpp has no other word for it; it reads no window there."""
    if 0 < config.window < config.context_length:
        raise BadInput(
            f"a window of {config.window} tokens in a context of {config.context_length} has no place in a GGUF llama",
            hint=f"with a context_length of {config.window} the window is never reached",
        )


GGUF = Gguf(
    architecture="llama",
    tensors={
        "embedding.weight": "token_embd.weight",
        "blocks.{i}.attention_norm.weight": "blk.{i}.attn_norm.weight",
        "blocks.{i}.attention.q_proj.weight": "blk.{i}.attn_q.weight",
        "blocks.{i}.attention.k_proj.weight": "blk.{i}.attn_k.weight",
        "blocks.{i}.attention.v_proj.weight": "blk.{i}.attn_v.weight",
        "blocks.{i}.attention.out_proj.weight": "blk.{i}.attn_output.weight",
        "blocks.{i}.mlp_norm.weight": "blk.{i}.ffn_norm.weight",
        "blocks.{i}.mlp.gate_proj.weight": "blk.{i}.ffn_gate.weight",
        "blocks.{i}.mlp.up_proj.weight": "blk.{i}.ffn_up.weight",
        "blocks.{i}.mlp.down_proj.weight": "blk.{i}.ffn_down.weight",
        "final_norm.weight": "output_norm.weight",
        "head.weight": "output.weight",
    },
    settings={
        "context_length": "context_length",
        "d_model": "embedding_length",
        "n_layers": "block_count",
        "n_heads": "attention.head_count",
        "n_kv_heads": "attention.head_count_kv",
        "head_dim": "attention.key_length",
        "d_ff": "feed_forward_length",
        "rope_theta": "rope.freq_base",
        "norm_eps": "attention.layer_norm_rms_epsilon",
    },
    defaults={"n_kv_heads": 0, "head_dim": 0, "rope_theta": 10000.0},
    in_pairs={"blocks.{i}.attention.q_proj.weight": "n_heads", "blocks.{i}.attention.k_proj.weight": "n_kv_heads"},
    check=check_gguf,
)

Mistral.hugging_face, Mistral.gguf = HUGGING_FACE, GGUF
