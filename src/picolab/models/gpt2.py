"""GPT-2: the classic decoder. Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

tokens + positions -> n_layers x [x + attention(norm(x)); x + feed(norm(x))] -> norm -> logits (head tied to the embedding)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from picolab.models.contract import Gguf, HuggingFace, LanguageModel
from picolab.parts.attention import Sight, look, mix, split_heads, width_of_heads
from picolab.parts.cache import KeyValueCache
from picolab.parts.embedding import Embedding
from picolab.parts.feedforward import FeedForward, gelu
from picolab.parts.head import Head
from picolab.parts.init import init_normal, shrink_residual
from picolab.parts.norm import LayerNorm
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of a GPT-2; `attention_bias=False` drops the four biases of attention."""

    vocab_size: int = 50257
    context_length: int = 1024
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    attention_bias: bool = True
    norm_eps: float = 1e-5
    tied: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        width_of_heads(self.d_model, self.n_heads)


class Attention(nn.Module):
    """Plain multi-head attention with learned positions in the stream already; one matrix makes q, k and v."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads = layer, config.n_heads
        self.qkv_proj = nn.Linear(config.d_model, 3 * config.d_model, bias=config.attention_bias)
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=config.attention_bias)

    def forward(self, x: Stream, sight: Sight) -> Stream:
        q, k, v = (split_heads(part, self.n_heads) for part in self.qkv_proj(x).chunk(3, dim=-1))
        q, k, v = tap(self, "q", q), tap(self, "k", k), tap(self, "v", v)
        return tap(self, "out", self.out_proj(mix(self, self.layer, q, k, v, sight)))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each reading a normed copy of the stream and adding to it."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, gelu, bias=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Stream, sight: Sight) -> Stream:
        h = tap(self, "attention_norm", self.attention_norm(x))
        x = tap(self, "resid_mid", x + self.dropout(self.attention(h, sight)))
        h = tap(self, "mlp_norm", self.mlp_norm(x))
        return tap(self, "resid_post", x + self.dropout(self.mlp(h)))


class GPT2(LanguageModel):
    """The whole model."""

    architecture = "gpt2"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = Embedding(config.vocab_size, config.d_model, tied=config.tied)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        blocks = [Block(config, layer) for layer in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = LayerNorm(config.d_model, config.norm_eps)
        self.head = Head(config.d_model, config.vocab_size)
        init_normal(self)
        shrink_residual((w for b in blocks for w in (b.attention.out_proj, b.mlp.down_proj)), config.n_layers)
        if config.tied:
            self.head.weight = self.embedding.weight

    def features(
        self, tokens: Tokens, *, cache: KeyValueCache | None = None, documents: Documents | None = None
    ) -> Stream:
        sight = look(tokens, context_length=self.config.context_length, documents=documents, cache=cache)
        x = self.embedding(tokens) + self.position_embedding(sight.positions)
        x = tap(self, "embed", self.dropout(x))
        for block in self.blocks:
            x = block(x, sight)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return tap(self, "final_norm", self.final_norm(x))

    def new_cache(self, batch_size: int, capacity: int) -> KeyValueCache:
        c = self.config
        return KeyValueCache.of(
            self.head.weight, c.n_layers, batch_size, capacity, c.n_heads, width_of_heads(c.d_model, c.n_heads)
        )


HUGGING_FACE = HuggingFace(
    model_type="gpt2",
    class_name="GPT2LMHeadModel",
    tensors={
        "embedding.weight": "transformer.wte.weight",
        "position_embedding.weight": "transformer.wpe.weight",
        "blocks.{i}.attention_norm.weight": "transformer.h.{i}.ln_1.weight",
        "blocks.{i}.attention_norm.bias": "transformer.h.{i}.ln_1.bias",
        "blocks.{i}.attention.qkv_proj.weight": "transformer.h.{i}.attn.c_attn.weight",
        "blocks.{i}.attention.qkv_proj.bias": "transformer.h.{i}.attn.c_attn.bias",
        "blocks.{i}.attention.out_proj.weight": "transformer.h.{i}.attn.c_proj.weight",
        "blocks.{i}.attention.out_proj.bias": "transformer.h.{i}.attn.c_proj.bias",
        "blocks.{i}.mlp_norm.weight": "transformer.h.{i}.ln_2.weight",
        "blocks.{i}.mlp_norm.bias": "transformer.h.{i}.ln_2.bias",
        "blocks.{i}.mlp.up_proj.weight": "transformer.h.{i}.mlp.c_fc.weight",
        "blocks.{i}.mlp.up_proj.bias": "transformer.h.{i}.mlp.c_fc.bias",
        "blocks.{i}.mlp.down_proj.weight": "transformer.h.{i}.mlp.c_proj.weight",
        "blocks.{i}.mlp.down_proj.bias": "transformer.h.{i}.mlp.c_proj.bias",
        "final_norm.weight": "transformer.ln_f.weight",
        "final_norm.bias": "transformer.ln_f.bias",
        "head.weight": "lm_head.weight",
    },
    settings={
        "vocab_size": "vocab_size",
        "context_length": "n_positions",
        "d_model": "n_embd",
        "n_layers": "n_layer",
        "n_heads": "n_head",
        "d_ff": "n_inner",
        "norm_eps": "layer_norm_epsilon",
        "tied": "tie_word_embeddings",
    },
    fixed={
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    defaults={"d_ff": lambda config: 4 * config["n_embd"], "norm_eps": 1e-5, "tied": True},
    ignored=frozenset({"transformer.h.{i}.attn.bias", "transformer.h.{i}.attn.masked_bias"}),  # causal masks
    # GPT-2's layers are stored input by output.
    transposed=frozenset(
        f"blocks.{{i}}.{name}.weight"
        for name in ("attention.qkv_proj", "attention.out_proj", "mlp.up_proj", "mlp.down_proj")
    ),
)

GGUF = Gguf(
    architecture="gpt2",
    tensors={
        "embedding.weight": "token_embd.weight",
        "position_embedding.weight": "position_embd.weight",
        "blocks.{i}.attention_norm.weight": "blk.{i}.attn_norm.weight",
        "blocks.{i}.attention_norm.bias": "blk.{i}.attn_norm.bias",
        "blocks.{i}.attention.qkv_proj.weight": "blk.{i}.attn_qkv.weight",
        "blocks.{i}.attention.qkv_proj.bias": "blk.{i}.attn_qkv.bias",
        "blocks.{i}.attention.out_proj.weight": "blk.{i}.attn_output.weight",
        "blocks.{i}.attention.out_proj.bias": "blk.{i}.attn_output.bias",
        "blocks.{i}.mlp_norm.weight": "blk.{i}.ffn_norm.weight",
        "blocks.{i}.mlp_norm.bias": "blk.{i}.ffn_norm.bias",
        "blocks.{i}.mlp.up_proj.weight": "blk.{i}.ffn_up.weight",
        "blocks.{i}.mlp.up_proj.bias": "blk.{i}.ffn_up.bias",
        "blocks.{i}.mlp.down_proj.weight": "blk.{i}.ffn_down.weight",
        "blocks.{i}.mlp.down_proj.bias": "blk.{i}.ffn_down.bias",
        "final_norm.weight": "output_norm.weight",
        "final_norm.bias": "output_norm.bias",
        "head.weight": "output.weight",
    },
    settings={
        "context_length": "context_length",
        "d_model": "embedding_length",
        "n_layers": "block_count",
        "n_heads": "attention.head_count",
        "d_ff": "feed_forward_length",
        "norm_eps": "attention.layer_norm_epsilon",
    },
    rotary=False,
)

GPT2.hugging_face, GPT2.gguf = HUGGING_FACE, GGUF
