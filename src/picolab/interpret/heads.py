"""What does each attention head do? Its pattern on random tokens that come twice, where nothing else can help.

    tokens              eot  r1 r2 r3 r4   r1 r2 r3 r4         the second r2 is read: where does a head look?
    previous token               ......       r1               the token before
    induction                      r3                          what followed r2 before       Olsson et al. 2022, arXiv:2209.11895
    same token                  r2                             r2 itself, the first time
    first token         eot                                    the resting place (a sink)    Xiao et al. 2023, arXiv:2309.17453

A score is the share of a query's attention that lies there, over the queries that have such a place; spread evenly, a head
scores `even`. Names are given from NAMED upwards; whether the model needs what the picture shows is asked in `causes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.interpret.ablate import Head, heads_of
from picolab.interpret.attention import weights_seen
from picolab.interpret.chance import Band, band
from picolab.interpret.texts import at_rest, batches
from picolab.models.contract import LanguageModel

PATTERNS = ("previous token", "induction", "same token", "first token")

NAMED = 0.4
"""From this share of its attention a head has the pattern's name."""

ROWS, LENGTH = 32, 25
"""Random texts, and how many random tokens each says twice."""

FEWEST = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadScore:
    """The share of a head's attention on each of `PATTERNS`, and its `entropy` as a share of the largest possible."""

    layer: int
    head: int
    shares: dict[str, Band]
    entropy: Band

    @property
    def place(self) -> Head:
        return self.layer, self.head

    @property
    def name(self) -> str:
        """`layer.head`, as heads are called."""
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadScores:
    """Every head's scores over `rows` texts of twice `length` random tokens; `even` is what spreading evenly scores."""

    heads: tuple[HeadScore, ...]
    even: dict[str, float]
    length: int
    rows: int

    def best(self, pattern: str) -> HeadScore:
        return max(self.heads, key=lambda head: head.shares[pattern].mean)

    def named(self, pattern: str) -> list[HeadScore]:
        """The heads that have a pattern's name, strongest first; of several patterns a head has the strongest."""
        strong = [head for head in self.heads if head.shares[pattern].mean >= NAMED]
        mine = [head for head in strong if max(head.shares.values(), key=lambda b: b.mean) is head.shares[pattern]]
        return sorted(mine, key=lambda head: -head.shares[pattern].mean)


def repeated(
    tokens: Sequence[int], *, opening: Sequence[int] = (), length: int = LENGTH, rows: int = ROWS, seed: int = 0
) -> list[list[int]]:
    """Texts of the opening tokens and `length` different random ones of `tokens`, twice."""
    if len(tokens) < FEWEST or length < FEWEST:
        raise BadInput(
            f"{min(len(tokens), length)} tokens are too few to be said twice",
            hint=f"random text needs at least {FEWEST}",
        )
    rng = np.random.default_rng(seed)
    length = min(length, len(tokens))
    drawn = [rng.choice(len(tokens), size=length, replace=False).tolist() for _ in range(rows)]
    return [[*opening, *(tokens[i] for i in row), *(tokens[i] for i in row)] for row in drawn]


def score_heads(model: LanguageModel, texts: Sequence[Sequence[int]], *, length: int) -> HeadScores:
    """The scores of every head on texts from `repeated`, with `length` tokens said twice after their opening ones.

    Raises `BadInput` for a model without attention.
    """
    heads_of(model)
    found: dict[int, list[Tensor]] = {}
    for batch in batches(texts):

        def see(layer: int, probs: Tensor) -> None:
            found.setdefault(layer, []).append(_shares(probs, length).cpu())

        with at_rest(model), weights_seen(model, see):
            model(batch.tokens.to(model.device))
    scores = []
    for layer in sorted(found):
        whole = torch.cat(found[layer]).double().numpy()  # texts x heads x (patterns, entropy)
        for head in range(whole.shape[1]):
            bands = [band(whole[:, head, i]) for i in range(len(PATTERNS) + 1)]
            shares = dict(zip(PATTERNS, bands, strict=False))
            scores.append(HeadScore(layer=layer, head=head, shares=shares, entropy=bands[-1]))
    time = len(texts[0])
    evenly = torch.ones(time, time).tril()
    even = _shares((evenly / evenly.sum(-1, keepdim=True))[None, None], length)[0, 0].tolist()
    return HeadScores(heads=tuple(scores), even=dict(zip(PATTERNS, even, strict=False)), length=length, rows=len(texts))


def says(scores: HeadScores) -> list[str]:
    """For each pattern, one sentence on the heads that have it."""
    sentences = []
    for pattern in PATTERNS:
        named, best, even = scores.named(pattern), scores.best(pattern), scores.even[pattern]
        if named:
            several = ", ".join(f"{head.name} ({head.shares[pattern]})" for head in named)
            count = "1 head looks" if len(named) == 1 else f"{len(named)} heads look"
            sentences.append(
                f"{pattern.capitalize()}: {count} there most, {several}; spread evenly it would be {even:.3f}."
            )
        else:
            sentences.append(
                f"{pattern.capitalize()}: no head is called so; {best.name} looks there most, {best.shares[pattern]} of its "
                f"attention, below {NAMED}; spread evenly it would be {even:.3f}."
            )
    return sentences


def _shares(probs: Tensor, length: int) -> Tensor:
    """`(texts, heads, time, time)` -> `(texts, heads, patterns and entropy)`, each a mean over queries."""
    time = probs.shape[-1]
    probs = probs.float()
    second = torch.arange(time - length, time, device=probs.device)  # queries whose token was read before
    parts = [
        probs.diagonal(-1, dim1=-2, dim2=-1).mean(-1),
        probs[..., second, second - length + 1].mean(-1),
        probs[..., second, second - length].mean(-1),
        probs[..., 2:, 0].mean(-1),  # of the second token the first is the one before
    ]
    seen = torch.arange(1, time + 1, device=probs.device).log()[1:]
    entropy = -torch.xlogy(probs, probs).sum(-1)[..., 1:]
    parts.append((entropy / seen).mean(-1))
    return torch.stack(parts, dim=-1)


def usual_length(model: LanguageModel, longest: int | None, opening: int) -> int:
    """How many random tokens are said twice: as fits what the model can read, and the texts it has learned from."""
    room = min(model.config.context_length, longest or model.config.context_length)
    length = min(LENGTH, (room - opening) // 2)
    if length < FEWEST:
        raise BadInput(
            f"the model reads {room} tokens, too few for {FEWEST} random ones said twice",
            hint="a model of longer texts can be asked",
        )
    return length
