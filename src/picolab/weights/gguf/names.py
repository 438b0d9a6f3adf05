"""How does GGUF spell an architecture? Tensor names and keys, as data. github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py.

    ours                                  theirs
    d_model                               llama.embedding_length
    blocks.3.attention.q_proj.weight      blk.3.attn_q.weight

A key that stands under the architecture's name and in no table changes the model in a way that is not computed here: it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """One architecture in GGUF's words: `{i}` stands for the layer, keys are without the architecture's name before them.

    `defaults` are llama.cpp's values for keys that may be missing, in our words. `in_pairs` maps parameters whose rows lie in
    adjacent pairs to the setting that counts their heads.
    """

    tensors: Mapping[str, str]
    settings: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_pairs: Mapping[str, str] = field(default_factory=dict)
    rotary: bool = True


DECODER = {
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
}

QKV_BIASES = {
    f"blocks.{{i}}.attention.{letter}_proj.bias": f"blk.{{i}}.attn_{letter}.bias" for letter in ("q", "k", "v")
}

QK_NORMS = {
    f"blocks.{{i}}.attention.{letter}_norm.weight": f"blk.{{i}}.attn_{letter}_norm.weight" for letter in ("q", "k")
}

SIZES = {
    "context_length": "context_length",
    "d_model": "embedding_length",
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "d_ff": "feed_forward_length",
}

ROTARY_SIZES = {
    **SIZES,
    "n_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
    "norm_eps": "attention.layer_norm_rms_epsilon",
}

ROTARY_DEFAULTS = {"n_kv_heads": 0, "head_dim": 0, "rope_theta": 10000.0}

SPELLINGS: dict[str, Spelling] = {
    "llama": Spelling(
        tensors=DECODER,
        settings=ROTARY_SIZES,
        defaults=ROTARY_DEFAULTS,
        in_pairs={
            "blocks.{i}.attention.q_proj.weight": "n_heads",
            "blocks.{i}.attention.k_proj.weight": "n_kv_heads",
        },
    ),
    "qwen2": Spelling(tensors={**DECODER, **QKV_BIASES}, settings=ROTARY_SIZES, defaults=ROTARY_DEFAULTS),
    "qwen3": Spelling(tensors={**DECODER, **QK_NORMS}, settings=ROTARY_SIZES, defaults=ROTARY_DEFAULTS),
    "gpt2": Spelling(
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
        settings={**SIZES, "norm_eps": "attention.layer_norm_epsilon"},
        rotary=False,
    ),
}
"""`general.architecture` -> how it is spelled; the names are ours too."""

ROPE_FACTORS = "rope_freqs.weight"
"""A number for every pair of lanes by which it is slowed: how GGUF keeps Llama 3's scaling."""

SCALING = "rope.scaling."
SCALING_KEYS = {
    "factor": "factor",
    "original_context_length": "original_context_length",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}
"""What follows `rope.scaling.` where its type is yarn."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scale_linear": (1.0,),
    "use_parallel_residual": (False,),
}
"""Keys that may be there, with the values that change nothing."""

SAID_ELSEWHERE = {
    "vocab_size",  # the embedding has as many rows
    "tensor_data_layout",
    "attention.value_length",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_ext_factor",
    *(SCALING + key for key in SCALING_KEYS.values()),
}
"""Keys that are read, or checked against others, by name."""


def layered(pattern: str, layer: int) -> str:
    return pattern.replace("{i}", str(layer))


def named(table: Mapping[str, str], n_layers: int) -> dict[str, str]:
    """Every parameter of a model with so many layers: our name -> theirs."""
    names: dict[str, str] = {}
    for ours, theirs in table.items():
        for layer in range(n_layers) if "{i}" in ours else (0,):
            names[layered(ours, layer)] = layered(theirs, layer)
    return names
