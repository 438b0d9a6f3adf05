"""What does the forward pass of a block keep for the backward pass? Every input of a product, every number a slope is made of.

    norm (in) -> q k v -> rotary -> attention -> out -> norm (in) -> feed-forward          bytes for each token, by where it is kept

The stream between blocks is float32 always; products under bfloat16 read copies of two bytes a number, and every matrix that
reads a norm's output makes a copy of its own. With documents in a row attention takes a mask, which PyTorch's fused kernels keep as
numbers: length x 2 or 4 bytes a token and block. A test counts the same with `torch.autograd.graph.saved_tensors_hooks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from picolab.measure.planning.shape import Shape

Kind = Literal["cpu", "cuda"]

FLOAT = 4
"""Bytes of a float32."""

SHORT = 2**17
"""Up to so many scores a head, bfloat16 on a CPU takes two products and a softmax, not the fused kernel (parts/attention.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one device computes at a time: rows x length tokens, products of `width` bytes a number, on a kind of device."""

    rows: int
    length: int
    width: int
    kind: Kind

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def mixed(self) -> bool:
        """Whether products are computed in fewer bytes than the stream has."""
        return self.width < FLOAT

    @property
    def by_products(self) -> bool:
        """Whether attention's probabilities exist in full."""
        return self.kind == "cpu" and self.mixed and self.length**2 <= SHORT


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Bytes a token that one block keeps, by part; `mask` is attention's mask or, by products, its probabilities."""

    norms: int
    attention: int
    mask: int
    feed: int

    @property
    def total(self) -> int:
        return self.norms + self.attention + self.mask + self.feed


def kept_by_block(shape: Shape, work: Work) -> Kept:
    """Bytes that one block keeps for every token."""
    gated, d = shape.traits.feed == "gated", shape.d_model
    readers = 1 if shape.traits.one_qkv else 3
    norms = _norm(shape, work, readers=readers) + _norm(shape, work, readers=2 if gated else 1)
    mixed = work.width * shape.q_lanes
    drops = 2 * d * (1 if work.kind == "cuda" else work.width) if shape.dropout else 0
    return Kept(
        norms=norms + drops,
        attention=_queries_and_keys(shape, work)
        + work.width * (shape.q_lanes + 2 * shape.kv_lanes)
        + mixed
        + _sums(shape, work),
        mask=work.width * work.length * (shape.n_heads if work.by_products else 1),
        feed=work.width * shape.d_ff * (4 if gated else 2),
    )


def kept_outside(shape: Shape, work: Work) -> int:
    """Bytes a token kept outside the blocks, up to the head: ids, angles, the embedding's norm, the last norm and its output."""
    d, ids = shape.d_model, 8 + 8 + 1  # tokens, targets, which of them are scored
    if not shape.traits.rotary:
        ids += 8
    elif not work.mixed:
        ids += FLOAT * shape.head_dim  # cosine and sine of half the lanes each
    embedded = FLOAT * (d + 1) if shape.traits.embed_norm else 0
    return ids + embedded + _norm(shape, work, readers=0) + FLOAT * d


def _norm(shape: Shape, work: Work, *, readers: int) -> int:
    """A norm keeps its input and its statistics; its output is kept once, in bfloat16 once for each matrix that reads it."""
    d, kind = shape.d_model, shape.traits.norm
    statistics = 2 * FLOAT if kind == "layer" else FLOAT
    # PyTorch's rms norm is one kernel on a GPU only: elsewhere what is multiplied by the weight is kept as well.
    between = FLOAT * d if kind == "rms" and work.kind == "cpu" else 0
    output = (readers if work.mixed else min(readers, 1)) * work.width * d
    return FLOAT * d + statistics + between + output


def _queries_and_keys(shape: Shape, work: Work) -> int:
    """What rotation and norms of queries and keys keep before attention reads them."""
    lanes, heads = shape.q_lanes + shape.kv_lanes, shape.n_heads + shape.n_kv_heads
    kept = 0
    if shape.traits.rotary and work.mixed:
        kept += (
            2 * work.width * shape.head_dim
        )  # cosine and sine in the type of the products, once for q and once for k
    if shape.traits.qk_norm != "none":
        kept += FLOAT * (lanes + heads)
        if shape.traits.qk_norm == "rms" and work.kind == "cpu":
            kept += FLOAT * lanes
    return kept


def _sums(shape: Shape, work: Work) -> int:
    """The fused kernel keeps the logarithm of every softmax's sum."""
    return 0 if work.by_products else FLOAT * shape.n_heads
