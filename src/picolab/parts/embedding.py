"""The embedding: a row of numbers for every word of the vocabulary.

token id -> weight[id]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from picolab.shapes import Stream, Tokens


class Embedding(nn.Module):
    """One learned vector a token; `tied` if the head uses the same matrix."""

    def __init__(self, vocab_size: int, d_model: int, *, tied: bool) -> None:
        super().__init__()
        self.weight: Float[Tensor, "vocab d_model"] = nn.Parameter(torch.empty(vocab_size, d_model))
        nn.init.normal_(self.weight, std=0.02)
        self.tied = tied

    def forward(self, tokens: Tokens) -> Stream:
        # A tied matrix gets a dense gradient from the head anyway; the few rows read here are added to it where they belong,
        # instead of a second matrix of zeros with a few rows in it.
        return F.embedding(tokens, self.weight, sparse=self.tied)
