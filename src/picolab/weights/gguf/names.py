"""Which names does GGUF know? Architectures by the tables of their models; what all of them share, here.
github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py.

    ours                                  theirs
    d_model                               llama.embedding_length
    blocks.3.attention.q_proj.weight      blk.3.attn_q.weight

A key that stands under the architecture's name and in no table changes the model in a way that is not computed here: it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picolab.models.contract import Gguf
from picolab.zoo import ARCHITECTURES

Spelling = Gguf

SPELLINGS: dict[str, Gguf] = {
    entry.model.gguf.architecture: entry.model.gguf
    for name, entry in ARCHITECTURES.items()
    if entry.model.gguf is not None and entry.model.gguf.architecture == name
}
"""`general.architecture` -> how it is spelled, from the table that ends each model's file; the names are ours too. A model that is
written under another's name (a Mistral is a Llama there) is read as that other."""

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
