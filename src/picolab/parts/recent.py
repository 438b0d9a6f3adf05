"""The newest k tokens of every position: all that a k-gram or n-gram model ever looks at.

tokens     eot  The  cat | eot  A        documents 0 0 0 1 1
slot 0     eot  The  cat   eot  A        the newest token, the one that has just been read
slot 1      -   eot  The    -   eot      one step back
slot 2      -    -   eot    -    -       two steps back; `-` is EMPTY: before the document there is nothing
"""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from picolab.errors import BadInput
from picolab.parts.attention import positions_within
from picolab.shapes import Documents, Tokens

EMPTY = -1
"""Where a document has not begun yet: no token, and in particular not token 0."""

Context = Int64[Tensor, "batch time k"]


class RecentTokens:
    """What such a model remembers between calls: the last tokens of every row, at most k - 1.

    It never fills up: `capacity` is what the caller asked for, kept because every cache says it.
    """

    def __init__(self, *, batch_size: int, k: int, capacity: int, device: torch.device) -> None:
        self.tokens = torch.full((batch_size, max(k - 1, 0)), EMPTY, dtype=torch.int64, device=device)
        self.capacity = capacity
        self.length = 0

    def extend(self, tokens: Tokens) -> Int64[Tensor, "batch past"]:
        """The remembered tokens and these, side by side; the newest of them are remembered from now on."""
        if tokens.shape[0] != self.tokens.shape[0]:
            raise BadInput(f"the cache holds {self.tokens.shape[0]} rows and {tokens.shape[0]} continue them")
        kept = self.tokens.shape[1]
        both = torch.cat((self.tokens, tokens), dim=1)
        self.tokens = both[:, both.shape[1] - kept :]
        self.length += tokens.shape[1]
        return both


def recent(tokens: Tokens, k: int, *, documents: Documents | None = None, cache: RecentTokens | None = None) -> Context:
    """Slot j of position t holds token t - j of the same document, or `EMPTY`."""
    if documents is not None and cache is not None:
        raise BadInput("packed documents and a cache cannot be combined", hint="generate one document a row")
    if cache is None:
        cache = RecentTokens(batch_size=tokens.shape[0], k=k, capacity=tokens.shape[1], device=tokens.device)
    past = cache.extend(tokens)
    back = torch.arange(k, device=tokens.device)
    first = past.shape[1] - tokens.shape[1]
    context = past[:, torch.arange(first, past.shape[1], device=tokens.device)[:, None] - back]
    if documents is not None:
        context = context.masked_fill(back > positions_within(documents)[..., None], EMPTY)
    return context
