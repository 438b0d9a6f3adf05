"""A batch: what one training step or one evaluation step reads.

    stream     eot  The   cat   sat   eot  A     dog   ran   eot  (padding)
    tokens     eot  The   cat   sat   eot  A     dog   ran   eot
    targets    The  cat   sat   eot   A    dog   ran   eot   IGNORE
    documents  0    0     0     0     1    1     1     1     -1

Every document is opened by the end-of-text token and closed by it: the first `eot` predicts the first token, so every token of a
text is scored, and generation starts the way training started. `documents` numbers the documents of a row (-1: padding); no model
looks across a change of that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch

from picolab.parts.cross_entropy import IGNORE
from picolab.shapes import Documents, Tokens

__all__ = ["IGNORE", "Batch", "Rows"]


class Rows(Protocol):
    """What the training loop asks of the rows of a step, whatever the objective reads in them.

    `height` rows can be cut into parts; an objective's mean is over `scored` terms, and `n_tokens` tokens are learned from.
    """

    @property
    def height(self) -> int: ...
    @property
    def scored(self) -> int: ...
    @property
    def n_tokens(self) -> int: ...

    def part(self, rows: slice) -> Self: ...
    def to(self, device: torch.device | str) -> Self: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens, what follows each of them, and which document each belongs to; all `(batch, time)` int64."""

    tokens: Tokens
    targets: Tokens
    documents: Documents

    @property
    def scored(self) -> int:
        """How many positions count in the loss."""
        return int((self.targets != IGNORE).sum())

    @property
    def height(self) -> int:
        """How many rows there are."""
        return self.tokens.shape[0]

    @property
    def n_tokens(self) -> int:
        """How many tokens are learned from: every scored one."""
        return self.scored

    def part(self, rows: slice) -> Batch:
        """Some of the rows."""
        return Batch(self.tokens[rows], self.targets[rows], self.documents[rows])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.tokens, self.targets, self.documents)))
