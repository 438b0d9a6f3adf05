"""What an attention model remembers between calls: the keys and values of every layer, in memory set aside once.

capacity   |k0 k1 k2 k3 .. .. .. ..|
length      ----------^               a new chunk is written here; `advance` moves the mark once a pass is complete
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.shapes import Keys, Values


class KeyValueCache:
    """Keys and values `(batch, capacity, kv_heads, head_dim)` for each layer, filled from the left."""

    def __init__(
        self,
        *,
        n_layers: int,
        batch_size: int,
        capacity: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (n_layers, 2, batch_size, capacity, kv_heads, head_dim)
        self.memory = torch.zeros(shape, dtype=dtype, device=device)
        self.capacity = capacity
        self.length = 0

    @classmethod
    def of(
        cls, like: Tensor, n_layers: int, batch_size: int, capacity: int, kv_heads: int, head_dim: int
    ) -> KeyValueCache:
        """An empty cache of the same type and on the same device as the tensor `like`."""
        return cls(
            n_layers=n_layers,
            batch_size=batch_size,
            capacity=capacity,
            kv_heads=kv_heads,
            head_dim=head_dim,
            dtype=like.dtype,
            device=like.device,
        )

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Keys, Values]:
        """Write this pass's keys and values after what is there; return everything up to and including them."""
        end = self.length + k.shape[1]
        if end > self.capacity:
            raise BadInput(
                f"the cache holds {self.capacity} positions and {end} are needed",
                hint="shorten the prompt, generate fewer tokens, or use a model with a longer context",
            )
        keys, values = self.memory[layer, 0], self.memory[layer, 1]
        # A cache is for reading on, not for training: no gradient flows into what it holds.
        keys[:, self.length : end] = k.detach()
        values[:, self.length : end] = v.detach()
        return keys[:, :end], values[:, :end]

    def advance(self, time: int) -> None:
        """Mark `time` more positions as filled, after every layer has written its share."""
        self.length += time
