"""gpt-oss, reduced: alternating full and sliding-window attention with sinks. OpenAI 2025, arXiv:2508.10925.

    tokens -> n_layers x [x + attention(norm(x)); x + feed(norm(x))] -> norm -> logits
    even layers see the last `window` tokens only, odd layers see all; each head may give its attention to a sink instead

The reduced form keeps rotary positions, grouped heads, windows and sinks; the feed-forward is one dense SwiGLU where the published
model routes tokens to experts, and attention has no biases. transformers' class can hold it: as a model of one expert. What it
holds besides (several experts, biases, a SwiGLU that is cut off, YaRN) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from picolab.errors import BadCheckpoint, BadSetting
from picolab.models.contract import HuggingFace, LanguageModel
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


EXPERTS = "model.layers.{i}.mlp.experts."
ROUTER = "model.layers.{i}.mlp.router."
SINKS = "model.layers.{i}.self_attn.sinks"
NO_SINK = -(2.0**100)
"""A sink that takes nothing: its share of the attention is 0, exactly, in float32 as in bfloat16."""

UNLIMITED = 1e30
"""Where transformers' gate is cut off, which ours is not."""


def layer_types(settings: Mapping[str, Any]) -> list[str]:
    """Every layer's kind in transformers' words."""
    even = "sliding_attention" if settings["window"] else "full_attention"
    return ["full_attention" if layer % 2 else even for layer in range(settings["n_layers"])]


def pack(tensors: dict[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The feed-forward as an only expert, to which a router sends every token with weight 1.

    transformers computes gate * sigmoid(gate) * (up + 1), gate and up interleaved: a bias of -1 takes the 1 away again.
    """
    packed = dict(tensors)
    d_model, d_ff = settings["d_model"], settings["d_ff"]
    for layer in range(settings["n_layers"]):
        experts, router, sinks = (name.replace("{i}", str(layer)) for name in (EXPERTS, ROUTER, SINKS))
        gate, up, down = (packed.pop(f"{experts}{part}.weight") for part in ("gate", "up", "down"))
        packed[f"{experts}gate_up_proj"] = torch.stack((gate.T, up.T), dim=-1).flatten(1)[None].contiguous()
        packed[f"{experts}gate_up_proj_bias"] = torch.tensor([0.0, -1.0]).repeat(d_ff)[None]
        packed[f"{experts}down_proj"] = down.T[None].contiguous()
        packed[f"{experts}down_proj_bias"] = torch.zeros(1, d_model)
        packed[f"{router}weight"], packed[f"{router}bias"] = torch.zeros(1, d_model), torch.zeros(1)
        packed.setdefault(sinks, torch.full((settings["n_heads"],), NO_SINK))
    return packed


def unpack(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The only expert as a feed-forward again. A router of one expert gives it weight 1 whatever it computes."""
    plain = dict(tensors)
    for name in [name for name in tensors if name.endswith(".mlp.experts.gate_up_proj")]:
        experts = name.removesuffix("gate_up_proj")
        both, down = plain.pop(name), plain.pop(f"{experts}down_proj", None)
        if both.ndim != 3 or len(both) != 1 or both.shape[2] % 2 or down is None or down.ndim != 3 or len(down) != 1:
            raise BadCheckpoint(
                f"`{name}` of shape {tuple(both.shape)} holds experts, and the feed-forward is one dense layer here"
            )
        plain[f"{experts}gate.weight"] = both[0, :, 0::2].T.contiguous()
        plain[f"{experts}up.weight"] = both[0, :, 1::2].T.contiguous()
        plain[f"{experts}down.weight"] = down[0].T.contiguous()
        biases = {
            f"{experts}gate_up_proj_bias": torch.tensor([0.0, -1.0]).repeat(both.shape[2] // 2),
            f"{experts}down_proj_bias": torch.zeros(down.shape[2]),
        }
        for bias, computed in biases.items():
            said = plain.pop(bias, None)
            if said is None or said.shape != (1, len(computed)) or not torch.equal(said[0].float(), computed):
                raise BadCheckpoint(f"`{bias}` is not what a feed-forward without biases has, which is computed here")
        router = experts.removesuffix("experts.") + "router."
        for part in ("weight", "bias"):
            plain.pop(router + part, None)
    return plain


HUGGING_FACE = HuggingFace(
    model_type="gpt_oss",
    class_name="GptOssForCausalLM",
    tensors={
        "embedding.weight": "model.embed_tokens.weight",
        "blocks.{i}.attention_norm.weight": "model.layers.{i}.input_layernorm.weight",
        "blocks.{i}.attention.sinks": SINKS,
        "blocks.{i}.attention.q_proj.weight": "model.layers.{i}.self_attn.q_proj.weight",
        "blocks.{i}.attention.k_proj.weight": "model.layers.{i}.self_attn.k_proj.weight",
        "blocks.{i}.attention.v_proj.weight": "model.layers.{i}.self_attn.v_proj.weight",
        "blocks.{i}.attention.out_proj.weight": "model.layers.{i}.self_attn.o_proj.weight",
        "blocks.{i}.mlp_norm.weight": "model.layers.{i}.post_attention_layernorm.weight",
        "blocks.{i}.mlp.gate_proj.weight": EXPERTS + "gate.weight",
        "blocks.{i}.mlp.up_proj.weight": EXPERTS + "up.weight",
        "blocks.{i}.mlp.down_proj.weight": EXPERTS + "down.weight",
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
    fixed={
        "num_local_experts": 1,
        "num_experts_per_tok": 1,
        "attention_bias": False,
        "swiglu_alpha": 1.0,
        "swiglu_limit": UNLIMITED,
    },
    # Where a config says nothing, the published model is meant.
    assumed={
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "attention_bias": True,
        "swiglu_alpha": 1.702,
        "swiglu_limit": 7.0,
        "rope_parameters": {"rope_type": "yarn", "factor": 32.0},
    },
    defaults={"n_kv_heads": 8, "head_dim": 64, "rope_theta": 150000.0, "norm_eps": 1e-5, "tied": False, "window": 128},
    nulls={"window": 0},
    absent={SINKS: NO_SINK},
    layer_types=layer_types,
    pack=pack,
    unpack=unpack,
)

GptOss.hugging_face = HUGGING_FACE
