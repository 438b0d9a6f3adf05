"""Keys and values for a step that is compiled once: memory that never moves, and a length that is data, not code.

positions    0 1 2 3 4 5 .. capacity
filled       0 1 2 3 4              handed to each pass: its size says how far the pass reaches,
                     ^              its end says where the pass writes

A compiler that is given a number compiles for that number; given a tensor whose size may vary, it compiles for all sizes. Every
layer's keys and values are tensors of their own, so that each is written in place: of one memory for all layers, a compiled pass
would write a new copy for every layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor

from picolab.parts.cache import KeyValueCache
from picolab.shapes import Keys, Values


class StaticCache(KeyValueCache):
    """One pass over `time` tokens: `filled` are the positions before it and its own."""

    def __init__(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], filled: Int64[Tensor, " past"], time: int
    ) -> None:
        self.keys, self.values, self.filled = keys, values, filled
        self.capacity = keys[0].shape[1]
        self.length = filled.shape[0] - time

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Keys, Values]:
        """Write this pass's keys and values at their positions; return everything up to and including them."""
        keys, values, end = self.keys[layer], self.values[layer], self.filled.shape[0]
        at = self.filled[end - k.shape[1] :]
        keys.index_copy_(1, at, k)
        values.index_copy_(1, at, v)
        return keys[:, :end], values[:, :end]
