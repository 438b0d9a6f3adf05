"""What linear attention remembers between calls: one matrix a head and layer, of the same size after any number of tokens.

layers x batch x heads x head_dim x (head_dim + 1)       the last column gathers the sum of weights (`linear_attention.py`)

Rows of different lengths are read side by side as with keys and values: padding on the left, and a row's text begins where
`starts` says. There the state is emptied, so nothing of the padding is left in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from picolab.errors import BadInput
from picolab.parts.linear_attention import State


class LinearState:
    """A state for each layer, zeros before anything is read.

    `capacity` is what the caller asked for, kept because every cache says it; the memory does not depend on it.
    """

    starts: Int64[Tensor, " batch"] | None = None
    first_start = 0

    def __init__(
        self, like: Tensor, *, n_layers: int, batch_size: int, n_heads: int, head_dim: int, capacity: int
    ) -> None:
        # Sums over a whole text need their digits: never less than float32.
        dtype = torch.promote_types(like.dtype, torch.float32)
        shape = (n_layers, batch_size, n_heads, head_dim, head_dim + 1)
        self.memory = torch.zeros(shape, dtype=dtype, device=like.device)
        self.capacity = capacity
        self.length = 0

    def of(self, layer: int) -> State:
        """What a layer has gathered so far."""
        return self.memory[layer]

    def put(self, layer: int, state: State) -> None:
        """Keep what a layer has gathered now. A state is for reading on, not for training: no gradient flows into it."""
        self.memory[layer] = state.detach()

    def advance(self, time: int) -> None:
        """Mark `time` more positions as read, after every layer has put its state."""
        self.length += time

    def start_at(self, starts: Sequence[int]) -> None:
        """Say where each row of a state still empty begins; padding is read before that."""
        if self.length:
            raise BadInput(f"{self.length} positions have been read, and rows start in an empty state")
        if len(starts) != self.memory.shape[1] or min(starts) < 0:
            raise BadInput(f"{list(starts)} are not the starts of {self.memory.shape[1]} rows")
        if any(starts):
            self.starts, self.first_start = torch.tensor(starts, device=self.memory.device), min(starts)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(rows, device=self.memory.device)
        self.memory = self.memory.index_select(1, index)
        if self.starts is not None:
            self.starts = self.starts[index]
            self.first_start = int(self.starts.min())
