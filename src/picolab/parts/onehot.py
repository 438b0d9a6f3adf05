"""A layer over k one-hot tokens, without ever writing a one-hot down.

    one-hot   [0 .. 1 .. 0 | 0 1 .. 0] @ weight (k * vocab, hidden)      k * vocab products a lane, all but k of them with 0
    gather    weight[0, token_0] + weight[1, token_1] + ...              the k rows that meet a 1, added

The same function with the same gradients: the gradient of the product is zero in every row that no token met.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from picolab.parts.recent import EMPTY, Context

Rows = Float[Tensor, "k vocab hidden"]


def onehot_product_plainly(context: Context, weight: Rows) -> Float[Tensor, "batch time hidden"]:
    """The literal product; an `EMPTY` slot is a vector of zeros."""
    slots = context[..., None]
    onehot = weight.new_zeros(*context.shape, weight.shape[1])
    onehot.scatter_(-1, slots.clamp(min=0), (slots != EMPTY).to(weight.dtype))
    return onehot.flatten(2) @ weight.flatten(0, 1)


def onehot_product(context: Context, weight: Rows) -> Float[Tensor, "batch time hidden"]:
    """`onehot_product_plainly` as a gather of k rows a token.

    The one large array is the weight's gradient, which has the weight's size and is dense so that any optimizer can read it;
    it is set to zero once and touched in the rows that were gathered.
    """
    k, vocab, _ = weight.shape
    empty = context == EMPTY
    row = context.masked_fill(empty, 0) + vocab * torch.arange(k, device=context.device)
    rows = F.embedding(row, weight.flatten(0, 1))  # batch time k hidden
    return rows.masked_fill(empty[..., None], 0.0).sum(2)
