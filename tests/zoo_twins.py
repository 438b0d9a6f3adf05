"""A tiny twin of every architecture in the zoo, with no number that is a default, neutral, or equal to another."""

from __future__ import annotations

import torch

from picolab.zoo import ARCHITECTURES, build

VOCAB, CONTEXT = 43, 24

DECODER = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 36, "n_layers": 3, "n_heads": 6, "d_ff": 52}
ROTARY = {**DECODER, "n_kv_heads": 2, "head_dim": 10, "rope_theta": 137.0, "norm_eps": 3e-4}
LLAMA3 = {
    "kind": "llama3", "factor": 3.7, "original_context_length": 19, "low_freq_factor": 1.3, "high_freq_factor": 3.1
}  # fmt: skip
YARN = {"kind": "yarn", "factor": 2.9, "original_context_length": 11}
ODD_YARN = {**YARN, "beta_fast": 5.3, "beta_slow": 0.7}  # which llama.cpp does not compute

TWINS: dict[str, tuple[str, dict[str, object]]] = {
    "kgram-onehot": ("kgram", {"vocab_size": VOCAB, "context_length": CONTEXT, "form": "onehot", "k": 3, "hidden": 17}),
    "kgram-embed": ("kgram", {"vocab_size": VOCAB, "context_length": CONTEXT, "form": "embed", "k": 3, "d_embed": 11}),
    "kgram-conv": ("kgram", {"vocab_size": VOCAB, "context_length": CONTEXT, "form": "conv", "k": 3, "d_embed": 11}),
    "lstm": ("lstm", {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 13, "hidden": 17, "n_layers": 2}),
    "gpt2": ("gpt2", {**DECODER, "norm_eps": 3e-4}),
    "gpt2 without attention bias": ("gpt2", {**DECODER, "attention_bias": False, "norm_eps": 3e-4}),
    "gpt2 untied": ("gpt2", {**DECODER, "tied": False}),
    "llama": ("llama", ROTARY),
    "llama tied": ("llama", {**ROTARY, "tied": True}),
    "llama plain": ("llama", {**ROTARY, "head_dim": 6}),  # what formats can hold that know no head_dim
    "llama plain tied": ("llama", {**ROTARY, "head_dim": 6, "tied": True}),
    "qwen2": ("qwen2", {**ROTARY, "tied": False}),
    "qwen2 tied": ("qwen2", ROTARY),
    "qwen3": ("qwen3", {**ROTARY, "tied": False}),
    "qwen3 tied": ("qwen3", ROTARY),
    "mistral": ("mistral", {**ROTARY, "window": 5}),
    "mistral without window": ("mistral", {**ROTARY, "window": 0}),
    "llama scaled as llama3": ("llama", {**ROTARY, "rope_scaling": LLAMA3}),
    "qwen2 plain": ("qwen2", {**ROTARY, "head_dim": 6, "tied": False}),
    "qwen2 scaled by yarn": ("qwen2", {**ROTARY, "head_dim": 6, "rope_scaling": YARN}),
    "qwen2 scaled by an odd yarn": ("qwen2", {**ROTARY, "rope_scaling": ODD_YARN}),
    "gpt_oss": ("gpt_oss", {**ROTARY, "window": 5}),
    "gpt_oss without sinks": ("gpt_oss", {**ROTARY, "window": 5, "sinks": False}),
    "nanochat": ("nanochat", ROTARY),
    "linear": ("linear", {**DECODER, "norm_eps": 3e-4}),
    "linear gated": ("linear", {**DECODER, "gated": True, "norm_eps": 3e-4, "tied": False}),
    "counted": ("counted", {**DECODER, "head_dim": 10, "rope_theta": 137.0, "norm_eps": 3e-4, "frozen": False}),
}
"""Name -> architecture and settings; every architecture that is trained by gradient is here."""

assert {architecture for architecture, _ in TWINS.values()} == set(ARCHITECTURES) - {"ngram"}


def fresh(name: str, seed: int = 0):
    """A newly initialised twin."""
    torch.manual_seed(seed)
    architecture, settings = TWINS[name]
    return build(architecture, settings).eval()


def adversarial(name: str, seed: int = 0):
    """A twin whose every parameter is random and large enough that attention is far from uniform."""
    model = fresh(name, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.7 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
            centre = 1.0 if parameter.ndim == 1 else 0.0
            parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=generator))
    return model


def some_tokens(batch: int = 2, time: int = 17, seed: int = 0):
    """Random token ids `(batch, time)`."""
    return torch.randint(0, VOCAB, (batch, time), generator=torch.Generator().manual_seed(seed))
