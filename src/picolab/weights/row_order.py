"""In which order do the rows of queries and keys lie? It says which lanes of a head are turned together.

    halves (ours, Hugging Face)     0  1  2 .. half-1 | half half+1 ..     pair i = (i, half + i)
    pairs (llama2.c, GGUF's llama)  0 half  1 half+1  2 ..                 pair i = (2i, 2i + 1)

A model read in the wrong order loads without a word and writes nonsense. Values are not turned, so their rows need no order.
"""

from __future__ import annotations

from torch import Tensor


def to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Rows `(n_heads * head_dim, ...)` in adjacent pairs, put in halves."""
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def to_pairs(weight: Tensor, n_heads: int) -> Tensor:
    """The way back: rows in halves, put in adjacent pairs."""
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)
