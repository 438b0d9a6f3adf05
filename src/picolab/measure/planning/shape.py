"""The sizes of a decoder that its memory and its time follow from, and how many numbers it holds.

    preset or settings  ->  Shape  ->  parameters: embedding, positions, blocks, head
    "1B parameters"     ->  a Llama of about that many, about `ASPECT` times as wide as deep

Loss hardly depends on the ratio of width to depth between 50 and 200 (Kaplan et al. 2020, arXiv:2001.08361, figure 5). Nothing here
imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from picolab.errors import BadSetting

ASPECT = 128
"""d_model / n_layers of a shape that is picked for a number of parameters."""

VOCAB = 32_000
"""The vocabulary of such a shape, where none is given: Llama's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """What the blocks of an architecture are made of."""

    norm: Literal["layer", "rms", "bare"]
    feed: Literal["plain", "gated"]
    one_qkv: bool = False
    qk_norm: Literal["none", "rms", "bare"] = "none"
    rotary: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    feed_bias: bool = False
    embed_norm: bool = False
    capped: bool = False


TRAITS: dict[str, Traits] = {
    "gpt2": Traits(
        norm="layer", feed="plain", one_qkv=True, rotary=False, qkv_bias=True, out_bias=True, feed_bias=True
    ),
    "llama": Traits(norm="rms", feed="gated"),
    "mistral": Traits(norm="rms", feed="gated"),
    "qwen2": Traits(norm="rms", feed="gated", qkv_bias=True),
    "qwen3": Traits(norm="rms", feed="gated", qk_norm="rms"),
    "nanochat": Traits(norm="bare", feed="plain", qk_norm="bare", embed_norm=True, capped=True),
}
"""The architectures whose arithmetic is known here; the others keep things of their own kind for the backward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A decoder in numbers; `biased` says whether its attention has the biases that its architecture may have."""

    architecture: str
    vocab_size: int
    context_length: int
    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    tied: bool
    biased: bool = True
    dropout: float = 0.0

    @property
    def traits(self) -> Traits:
        return TRAITS[self.architecture]

    @property
    def q_lanes(self) -> int:
        return self.n_heads * self.head_dim

    @property
    def kv_lanes(self) -> int:
        return self.n_kv_heads * self.head_dim

    @property
    def block_matrices(self) -> int:
        """Numbers in the matrices of one block."""
        ways = 3 if self.traits.feed == "gated" else 2
        return self.d_model * (2 * self.q_lanes + 2 * self.kv_lanes) + ways * self.d_model * self.d_ff

    @property
    def block(self) -> int:
        """Numbers in one block."""
        traits = self.traits
        vectors = 2 * _norm(traits.norm, self.d_model) + 2 * _norm(traits.qk_norm, self.head_dim)
        if self.biased:
            vectors += traits.qkv_bias * (self.q_lanes + 2 * self.kv_lanes) + traits.out_bias * self.d_model
        return self.block_matrices + vectors + traits.feed_bias * (self.d_ff + self.d_model)

    @property
    def head(self) -> int:
        """Numbers in the head's matrix, which is the embedding's where they are tied."""
        return self.vocab_size * self.d_model

    @property
    def outside(self) -> int:
        """Numbers outside the blocks: embedding, learned positions, last norm, head."""
        positions = 0 if self.traits.rotary else self.context_length * self.d_model
        return self.head * (1 if self.tied else 2) + positions + _norm(self.traits.norm, self.d_model)

    @property
    def parameters(self) -> int:
        return self.n_layers * self.block + self.outside

    def flops(self, length: int) -> float:
        """Operations a token of training takes: 6 a number that multiplies, and attention's 12 x layers x lanes x length.

        Chowdhery et al. 2022, arXiv:2204.02311, appendix B; reading the embedding multiplies nothing.
        """
        return 6.0 * (self.n_layers * self.block_matrices + self.head) + 12.0 * self.n_layers * self.q_lanes * length


def _norm(kind: str, lanes: int) -> int:
    return {"layer": 2, "rms": 1}.get(kind, 0) * lanes


def shape_of(architecture: str, settings: Mapping[str, Any]) -> Shape:
    """The shape of a model with these settings, every field of its architecture among them."""
    if architecture not in TRAITS:
        raise BadSetting(
            f"the memory of `{architecture}` follows no formula known here",
            hint="`picolab train` measures it before the first step; formulas: " + ", ".join(f"`{a}`" for a in TRAITS),
        )
    heads, width = settings["n_heads"], settings["d_model"]
    return Shape(
        architecture=architecture,
        n_kv_heads=settings.get("n_kv_heads") or heads,
        head_dim=settings.get("head_dim") or width // heads,
        biased=settings.get("attention_bias", True),
        dropout=settings.get("dropout", 0.0),
        **{
            name: settings[name]
            for name in ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_ff", "tied")
        },
    )


def llama_of(parameters: float, *, vocab_size: int = VOCAB, context_length: int = 2048) -> Shape:
    """A Llama with about so many numbers: heads of 64 or 128 lanes, SwiGLU of 8/3 x d_model, about `ASPECT` wide to 1 deep."""
    candidates = (
        _llama(layers, width, vocab_size, context_length)
        for layers in range(1, 161)
        for width in _widths(layers, parameters, vocab_size)
    )
    found = min(candidates, key=lambda shape: _misfit(shape, parameters), default=None)
    if found is None or abs(found.parameters / parameters - 1) > 0.1:
        least = _llama(1, 64, vocab_size, context_length).parameters
        raise BadSetting(
            f"no Llama with a vocabulary of {vocab_size:,} has about {parameters:,.0f} parameters",
            hint=f"from {least:,} on, or with another --vocab-size; or name a preset with --model",
        )
    return found


def _widths(layers: int, parameters: float, vocab_size: int) -> list[int]:
    """The two widths around the root of 12 x layers x d^2 + 2 x vocab x d = parameters, in steps of 64, wide ones of 256."""
    exact = (math.sqrt(vocab_size**2 + 12 * layers * parameters) - vocab_size) / (12 * layers)
    step = 64 if exact < 1024 else 256
    below = int(exact) // step * step
    return [width for width in (below, below + step) if width >= max(64, 2 * layers)]


def _llama(layers: int, width: int, vocab_size: int, context_length: int) -> Shape:
    head_dim = 64 if width < 1024 else 128
    return Shape(
        architecture="llama",
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=width,
        n_layers=layers,
        n_heads=width // head_dim,
        n_kv_heads=width // head_dim,
        head_dim=head_dim,
        d_ff=128 * round(8 * width / 3 / 128),
        tied=False,
    )


def _misfit(shape: Shape, parameters: float) -> tuple[float, float]:
    """How far a shape is from the number wanted beyond 5 %, then how far from the usual ratio."""
    error, ratio = abs(shape.parameters / parameters - 1), shape.d_model / shape.n_layers / ASPECT
    return max(0.0, error - 0.05), abs(math.log(ratio))
