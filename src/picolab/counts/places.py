"""Where should a head look, and how is that written down? At chosen distances, by two constant vectors under RoPE.

    s tokens back             k = sqrt(beta sqrt(h)) (1, 0) in every plane      q = the same turned back by s positions
                              <R_i q, R_j k> / sqrt(h) = beta * sum_m cos(omega_m (i - j - s))       largest where j = i - s
    a window w tokens wide    both in one slow plane, q a quarter turn ahead of k
                              <R_i q, R_j k> / sqrt(h) = -sin(omega (i - j)) / (omega w) ~ -(i - j) / w

Nothing of it depends on the tokens, so no training of embeddings, norms or feed-forward layers can move it. `beta` is how sharply
a head looks at one token: at 30 all weight is there, at 4 about 97 %, and a head that is trained further still has a gradient.
Which distances: those from which a token says most about the next one, once the present one is known (information.py); how wide a
window: as that information fades.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from picolab.errors import BadSetting
from picolab.parts.rope import frequencies

SHARP, SOFT = 30.0, 4.0
"""For a head that stays as it is, and for one that is trained on."""

FARTHEST = 5
"""Offsets that are compared: on texts the information of farther tokens only falls."""

WIDEST = 64.0
"""Tokens that a window is wide where information does not fade."""


@dataclass(frozen=True, slots=True)
class Window:
    """All that came before, the present token included: a weight falls by a factor e every `width` tokens."""

    width: float


def place(offset: int, head_dim: int, theta: float, beta: float) -> tuple[Tensor, Tensor]:
    """Constant query and key `(head_dim,)` of a head that looks `offset` tokens back."""
    omega = frequencies(head_dim, theta).double()
    size = (beta * head_dim**0.5) ** 0.5
    key = torch.cat([torch.ones_like(omega), torch.zeros_like(omega)]) * size
    query = torch.cat([(omega * offset).cos(), -(omega * offset).sin()]) * size
    return query, key


def fading(window: Window, head_dim: int, theta: float, context_length: int) -> tuple[Tensor, Tensor]:
    """Constant query and key `(head_dim,)` of a head that looks through a window."""
    plane, omega = slow_plane(head_dim, theta, context_length)
    size = (head_dim**0.5 / (omega * window.width)) ** 0.5
    query, key = torch.zeros(2, head_dim, dtype=torch.float64)
    key[plane] = query[head_dim // 2 + plane] = size
    return query, key


def slow_plane(head_dim: int, theta: float, context_length: int) -> tuple[int, float]:
    """The plane of a window and its frequency: the fastest that turns by no more than a quarter over the whole context. A slower
    one has the same slope only by larger numbers, which few bits cannot hold. Raises `BadSetting` where every plane is faster."""
    omega = frequencies(head_dim, theta).double()
    slow = omega * context_length <= math.pi / 2
    if not slow.any():
        raise BadSetting(
            f"with `rope_theta` {theta:g} and {head_dim} lanes every pair turns by more than a quarter over "
            f"{context_length} tokens: no head can tell near from far",
            hint="a larger rope_theta or head_dim, or a shorter context",
        )
    plane = int(slow.int().argmax())
    return plane, float(omega[plane])


def weights(looks: int | Window, head_dim: int, theta: float, beta: float, length: int) -> Float[Tensor, "time past"]:
    """What such a head looks at, from the formula: for tests and pictures."""
    distance = torch.arange(length)[:, None] - torch.arange(length)
    if isinstance(looks, Window):
        scores = -distance.double() / looks.width
    else:
        scores = beta * ((distance - looks)[..., None] * frequencies(head_dim, theta).double()).cos().sum(-1)
    return scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)


def ranked(information: Mapping[int, float]) -> Sequence[int]:
    """Offsets, the most telling first."""
    return sorted(information, key=lambda offset: (-information[offset], offset))


def window_of(information: Mapping[int, float]) -> Window:
    """As wide as information fades: I(s) ~ exp(-s / width), least squares of the logarithm over the offsets that tell anything."""
    telling = {offset: math.log(nats) for offset, nats in information.items() if nats > 0}
    if len(telling) < 2:
        return Window(WIDEST)
    slope = float(np.polyfit(list(telling), list(telling.values()), 1)[0])
    return Window(min(WIDEST, -1 / slope) if slope < 0 else WIDEST)
