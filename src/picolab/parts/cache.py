"""What an attention model remembers between calls: the keys and values of every layer, in memory set aside once.

capacity   |k0 k1 k2 k3 .. .. .. ..|
length      ----------^               a new chunk is written here; `advance` moves the mark once a pass is complete

Texts of different lengths are read side by side with padding on their left, so that their newest tokens stand in one column:

row 0      | a  b  c  d .. .. .. ..|   starts 0
row 1      | -  -  e  f .. .. .. ..|   starts 2: nothing looks at what lies before, and positions count from there
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from picolab.errors import BadInput
from picolab.shapes import Keys, Values


class KeyValueCache:
    """Keys and values `(batch, capacity, kv_heads, head_dim)` for each layer, filled from the left.

    `starts` says where each row's own text begins; None: all at 0. `first_start` is the smallest of them.
    """

    starts: Int64[Tensor, " batch"] | None = None
    first_start = 0

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

    def start_at(self, starts: Sequence[int]) -> None:
        """Say where each row of a cache still empty begins; padding is read before that."""
        if self.length:
            raise BadInput(f"the cache holds {self.length} positions, and rows start in an empty one")
        if len(starts) != self.memory.shape[2] or min(starts) < 0:
            raise BadInput(f"{list(starts)} are not the starts of {self.memory.shape[2]} rows")
        if any(starts):
            self.starts, self.first_start = torch.tensor(starts, device=self.memory.device), min(starts)

    def take_back(self, time: int) -> None:
        """Forget the newest positions; the next pass writes over them."""
        if not 0 <= time <= self.length:
            raise BadInput(f"{time} positions cannot be taken back from the {self.length} that were read")
        self.length -= time

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(rows, device=self.memory.device)
        self.memory = self.memory.index_select(2, index)
        if self.starts is not None:
            self.starts = self.starts[index]
            self.first_start = int(self.starts.min())
