"""The head: from the last vector of every token to a score for every word, and to the loss without ever holding all scores.

features -> weight^T -> (softcap: cap * tanh(x / cap)) -> logits
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from picolab.parts.cross_entropy import token_losses
from picolab.shapes import Logits, Stream, TokenLosses, Tokens


def softcap(x: Tensor, cap: float) -> Tensor:
    """Bend large values smoothly towards +-cap (Gemma Team 2024, arXiv:2408.00118)."""
    return cap * torch.tanh(x / cap)


class Head(nn.Module):
    """Scores over the vocabulary; tied heads share the embedding's parameter."""

    def __init__(self, d_model: int, vocab_size: int, *, cap: float | None = None, bias: bool = False) -> None:
        super().__init__()
        self.weight: Float[Tensor, "vocab d_model"] = nn.Parameter(torch.empty(vocab_size, d_model))
        nn.init.normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None
        self.cap = cap

    def forward(self, features: Stream) -> Logits:
        logits = nn.functional.linear(features, self.weight, self.bias)
        return logits if self.cap is None else softcap(logits, self.cap)

    def losses(self, features: Stream, targets: Tokens) -> TokenLosses:
        """Cross entropy of every position in nats; 0 where the target is `IGNORE`."""
        return token_losses(features, self.weight, targets, bias=self.bias, cap=self.cap)
