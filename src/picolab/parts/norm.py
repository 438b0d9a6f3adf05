"""Normalisation: bring every token's vector to a standard size before a layer reads it.

layer norm   (x - mean) / sqrt(variance + eps) * weight + bias      Ba et al. 2016, arXiv:1607.06450
rms norm      x         / sqrt(mean(x^2) + eps) * weight            Zhang and Sennrich 2019, arXiv:1910.07467
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Vectors = Float[Tensor, "*batch lanes"]


def rms_norm_plainly(x: Vectors, weight: Float[Tensor, " lanes"] | None, eps: float) -> Vectors:
    """Root-mean-square normalisation over the last axis, computed in float32 whatever the input's type."""
    # float32 inside: the mean of bfloat16 squares loses too much.
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)
    return normed if weight is None else normed * weight


def layer_norm_plainly(
    x: Vectors, weight: Float[Tensor, " lanes"] | None, bias: Float[Tensor, " lanes"] | None, eps: float
) -> Vectors:
    """Layer normalisation over the last axis with the biased variance."""
    centred = x - x.mean(-1, keepdim=True)
    normed = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    if weight is not None:
        normed = normed * weight
    return normed if bias is None else normed + bias


class RMSNorm(nn.Module):
    """`rms_norm_plainly` through PyTorch's kernel; `weighted=False` has no parameter at all."""

    def __init__(self, lanes: int, eps: float, *, weighted: bool = True) -> None:
        super().__init__()
        self.lanes, self.eps = lanes, eps
        self.weight = nn.Parameter(torch.ones(lanes)) if weighted else None

    def forward(self, x: Vectors) -> Vectors:
        # The weight follows the activations' type: autocast leaves it in float32, and the kernel takes one type only.
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, (self.lanes,), weight, self.eps)


class LayerNorm(nn.Module):
    """`layer_norm_plainly` through PyTorch's kernel, with weight and bias."""

    def __init__(self, lanes: int, eps: float) -> None:
        super().__init__()
        self.lanes, self.eps = lanes, eps
        self.weight = nn.Parameter(torch.ones(lanes))
        self.bias = nn.Parameter(torch.zeros(lanes))

    def forward(self, x: Vectors) -> Vectors:
        return F.layer_norm(x, (self.lanes,), self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
