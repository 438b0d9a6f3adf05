"""What is an engine, to somebody who compares engines? It reads tokens, says logits, and may be watched while it does.

forget -> read [5, 17, 200] -> logits (3, vocab)        a prefill
          read [9]          -> logits (1, vocab)        a decode step: the engine remembers what it read
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from torch import Tensor

See = Callable[[str, Tensor], None]
"""Called with the canonical name of a site and its value, batch first and of one row, in the order of computation."""


@runtime_checkable
class Engine(Protocol):
    """One loaded model in one engine; one text at a time, batch 1."""

    @property
    def name(self) -> str:
        """The engine with its version: `transformers 5.23.0`."""
        ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_length(self) -> int | None:
        """How many tokens it can read; None where its memory has one size."""
        ...

    def forget(self) -> None:
        """Begin a new text."""
        ...

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read on: float32 logits `(time, vocab)` after each of these tokens, given everything read since `forget`."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing put before or after it. BadInput where the engine has no tokenizer."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, control tokens left out."""
        ...

    def watching(self, see: See, wanted: Callable[[str], bool]) -> AbstractContextManager[None]:
        """While open, every `read` calls `see(site, value)` at each site it has and `wanted(site)` accepts."""
        ...
