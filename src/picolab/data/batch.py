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

import torch

from picolab.parts.cross_entropy import IGNORE
from picolab.shapes import Documents, Tokens

__all__ = ["IGNORE", "Batch"]


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

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.tokens, self.targets, self.documents)))
