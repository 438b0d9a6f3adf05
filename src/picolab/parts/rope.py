"""Rotary positions: each pair of lanes turns by an angle that grows with position. Su et al. 2021, arXiv:2104.09864.

    lanes of one head      0 1 2 .. half-1 | half half+1 ..         pair i = (lane i, lane half + i)
    angle of pair i        position * theta^(-2i / head_dim)

The score of a query and a key then depends on their distance only: rotating both by the same angle changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

Heads = Float[Tensor, "batch time heads head_dim"]


class Rotation(NamedTuple):
    """Cosine and sine of every pair's angle, the same for every head: `(batch or 1, time, 1, half)`."""

    cos: Float[Tensor, "#batch time 1 half"]
    sin: Float[Tensor, "#batch time 1 half"]

    def reversed(self) -> Rotation:
        """The same angles, turned the other way."""
        return Rotation(self.cos, -self.sin)


def frequencies(head_dim: int, theta: float) -> Float[Tensor, " half"]:
    """Radians a position for each pair of lanes, float32: theta^(-2i / head_dim)."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return 1.0 / theta**exponent


class Rope(nn.Module):
    """The angles of every position, computed once: `positions -> Rotation`. No parameter; not part of a checkpoint."""

    cos: Tensor
    sin: Tensor

    def __init__(self, context_length: int, head_dim: int, theta: float) -> None:
        super().__init__()
        turn = torch.outer(torch.arange(context_length, dtype=torch.float32), frequencies(head_dim, theta))
        self.register_buffer("cos", turn.cos(), persistent=False)
        self.register_buffer("sin", turn.sin(), persistent=False)

    def forward(self, positions: Int64[Tensor, "#batch time"]) -> Rotation:
        return Rotation(self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2))


def rotate(x: Heads, turn: Rotation) -> Heads:
    """Turn the pairs (i, half + i) of every head by their angles."""
    low, high = x.chunk(2, dim=-1)
    cos, sin = turn.cos.to(x.dtype), turn.sin.to(x.dtype)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def rotate_plainly(x: Heads, positions: Int64[Tensor, "#batch time"], theta: float) -> Heads:
    """`rotate` as complex multiplication, straight from the paper: (low + i high) * e^(i angle)."""
    half = x.shape[-1] // 2
    angle = positions.unsqueeze(-1).to(torch.float64) * frequencies(x.shape[-1], theta).to(torch.float64)
    turned = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(
        torch.ones_like(angle), angle
    ).unsqueeze(-2)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)
