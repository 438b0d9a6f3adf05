"""The feed-forward layer: every token thinks on its own, wider than the stream.

plain    down(act(up(x)))                                  gelu (Hendrycks and Gimpel 2016), relu squared (So et al. 2021)
gated    down(silu(gate(x)) * up(x))                       SwiGLU (Shazeer 2020, arXiv:2002.05202)
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from picolab.parts.tap import tap
from picolab.shapes import Stream


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, the one GPT-2 was trained with."""
    return F.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2."""
    return F.relu(x).square()


class FeedForward(nn.Module):
    """Expand, bend, contract; sites `up`, `act`, `down`."""

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], *, bias: bool) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Stream) -> Stream:
        up = tap(self, "up", self.up_proj(x))
        act = tap(self, "act", self.activation(up))
        return tap(self, "down", self.down_proj(act))


class GatedFeedForward(nn.Module):
    """Expand twice, one half opening and closing the other; sites `gate`, `up`, `act`, `down`."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=False)
        self.up_proj = nn.Linear(d_model, d_ff, bias=False)
        self.down_proj = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Stream) -> Stream:
        gate = tap(self, "gate", self.gate_proj(x))
        up = tap(self, "up", self.up_proj(x))
        act = tap(self, "act", F.silu(gate) * up)
        return tap(self, "down", self.down_proj(act))
