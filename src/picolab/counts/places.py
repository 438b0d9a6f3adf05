"""Where should a head look, and how is that written down? At chosen distances, by two constant vectors under RoPE.

    k = sqrt(beta sqrt(h)) (1, 0) in every plane      q = the same turned back by s positions
    <R_i q, R_j k> / sqrt(h) = beta * sum_m cos(omega_m (i - j - s))          largest where j = i - s: the head looks s tokens back

Nothing of it depends on the tokens, so no training of embeddings, norms or feed-forward layers can move it. `beta` is how sharply:
at 30 all weight is on one token, at 4 about 97 %, and a head that is to be trained further still has a gradient. Which distances:
those from which a token says most about the next one, once the present one is known (information.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.parts.rope import frequencies

SHARP, SOFT = 30.0, 4.0
"""For a head that stays as it is, and for one that is trained on."""

FARTHEST = 5
"""Offsets that are compared: on texts the information of farther tokens only falls."""


def place(offset: int, head_dim: int, theta: float, beta: float) -> tuple[Tensor, Tensor]:
    """Constant query and key `(head_dim,)` of a head that looks `offset` tokens back."""
    omega = frequencies(head_dim, theta).double()
    size = (beta * head_dim**0.5) ** 0.5
    key = torch.cat([torch.ones_like(omega), torch.zeros_like(omega)]) * size
    query = torch.cat([(omega * offset).cos(), -(omega * offset).sin()]) * size
    return query, key


def weights(offset: int, head_dim: int, theta: float, beta: float, length: int) -> Float[Tensor, "time past"]:
    """What such a head looks at, from the formula: for tests and pictures."""
    distance = torch.arange(length)[:, None] - torch.arange(length) - offset
    scores = beta * (distance[..., None] * frequencies(head_dim, theta).double()).cos().sum(-1)
    return scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)


def ranked(information: dict[int, float]) -> Sequence[int]:
    """Offsets, the most telling first."""
    return sorted(information, key=lambda offset: (-information[offset], offset))
