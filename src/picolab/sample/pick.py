"""Which token comes next? From logits to a distribution, and from a distribution to one token.

    logits -> repetition penalty -> / temperature -> top-k -> top-p -> min-p -> probabilities -> one token

The filters act in this order, each on what the one before it left, renormalised; it is the order of transformers, so
settings can be carried over. Top-p (nucleus sampling) is Holtzman et al. 2020, arXiv:1904.09751; min-p Nguyen et al.
2024, arXiv:2407.01082; the repetition penalty Keskar et al. 2019, arXiv:1909.05858. Equal logits rank by token id,
lower ids first, so that every filter is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from picolab.errors import BadSetting, Diverged

NextLogits = Float[Tensor, "batch vocab"]
Probabilities = Float[Tensor, "batch vocab"]
History = Sequence[Sequence[int]]  # for each row the tokens it has read, of any length
Kept = Bool[Tensor, "batch vocab"]
Picked = Int64[Tensor, " batch"]

ALL = "leave it out to keep all tokens"

FEW = 256
"""A nucleus is looked for among so many of the most likely tokens before all are sorted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """How to choose the next token; the defaults choose from the model's own distribution.

    `temperature` 0 and `top_k` 1 always take the most likely token. `top_k` keeps that many tokens. `top_p` keeps the
    smallest set of most likely tokens whose mass reaches it, the token that crosses it included; 1 keeps all, 0 one.
    `min_p` keeps tokens at least that probable relative to the most likely one. `repetition_penalty` above 1 makes
    tokens already read less likely.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise BadSetting(
                f"`temperature` is {self.temperature}, not a number from 0 up",
                hint="0 always takes the most likely token, 1 samples from the model's own distribution",
            )
        if self.top_k is not None and (isinstance(self.top_k, bool) or int(self.top_k) != self.top_k or self.top_k < 1):
            raise BadSetting(f"`top_k` is {self.top_k}, not a whole number from 1 up", hint=ALL)
        for name, value in (("top_p", self.top_p), ("min_p", self.min_p)):
            if value is not None and not 0 <= value <= 1:
                raise BadSetting(f"`{name}` is {value}, not a share from 0 to 1", hint=ALL)
        if not 0 < self.repetition_penalty < math.inf:
            raise BadSetting(
                f"`repetition_penalty` is {self.repetition_penalty}, not a number above 0", hint="1 changes nothing"
            )

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken, so that seeds change nothing."""
        return self.temperature == 0 or self.top_k == 1 or self.top_p == 0

    def distribution(self, logits: NextLogits, history: History | None = None) -> Probabilities:
        """The probabilities of the next token, each row summing to 1; `history` is what a penalty looks at."""
        logits = _checked(logits)
        if history is not None and self.repetition_penalty != 1:
            logits = penalise(logits, history, self.repetition_penalty)
        if self.greedy:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        # The largest first: 0 / temperature is 0 however small the temperature, and nothing overflows.
        logits = (logits - logits.max(-1, keepdim=True).values) / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(~largest(logits, self.top_k), -torch.inf)
        probs = logits.softmax(-1)
        if self.top_p is not None and self.top_p < 1:
            probs = _renormalised(probs, nucleus(probs, self.top_p))
        if self.min_p:
            probs = _renormalised(probs, probs >= self.min_p * probs.max(-1, keepdim=True).values)
        return probs

    def pick(
        self,
        logits: NextLogits,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        history: History | None = None,
    ) -> Picked:
        """One token a row. With a generator for each row, a row's choice does not depend on the rows beside it.

        One uniform number is taken from a row's generator, on the CPU, so a seed means the same on every device.
        """
        if self.greedy and (history is None or self.repetition_penalty == 1):
            top = logits.detach().max(-1)  # of equals the first
            _refuse_bad(top.values)
            return top.indices.cpu()
        probs = self.distribution(logits, history)
        if self.greedy:
            return probs.argmax(-1)
        generators = [generator] * len(probs) if isinstance(generator, torch.Generator | None) else list(generator)
        if len(generators) != len(probs):
            raise BadSetting(f"{len(generators)} generators for {len(probs)} rows", hint="give one, or one a row")
        uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
        return invert(probs, uniform)


def penalise(logits: NextLogits, history: History, penalty: float) -> NextLogits:
    """Divide positive logits of tokens already read by the penalty, multiply negative ones by it."""
    logits = logits.clone()
    for row, past in zip(logits, history, strict=True):
        ids = torch.tensor(sorted(set(past)), dtype=torch.int64)
        row[ids] = torch.where(row[ids] < 0, row[ids] * penalty, row[ids] / penalty)
    return logits


def largest(logits: NextLogits, k: int) -> Kept:
    """True at the k largest of each row; among equals at the border the lower ids."""
    return _above(logits, logits.topk(k).values[..., -1:], k)


def _above(x: NextLogits, border: Tensor, count: int | Tensor) -> Kept:
    """True at the `count` largest of each row, the last of which has the value `border`; among equals there the lower ids."""
    above, level = x > border, x == border
    return above | (level & (level.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def nucleus(probs: Probabilities, p: float) -> Kept:
    """True at the smallest set of most likely tokens whose mass reaches p, the crossing token included.

    A token stays if the mass before it has not reached p yet: the first always does.
    """
    ranked = probs.topk(min(FEW, probs.shape[-1])).values
    if bool((ranked.sum(-1) < p + 1e-9).any()):  # a sum may be rounded otherwise than the running sum below
        ranked = probs.sort(dim=-1, descending=True).values
    before = ranked.cumsum(-1).roll(1, -1)
    before[..., 0] = -torch.inf
    count = (before < p).sum(-1, keepdim=True)
    return _above(probs, ranked.gather(-1, count - 1), count)


def nucleus_plainly(probs: Sequence[float], p: float) -> set[int]:
    """`nucleus` as its definition reads, for one row: take the most likely token until the mass reaches p."""
    kept: set[int] = set()
    mass = 0.0
    for token in sorted(range(len(probs)), key=lambda token: (-probs[token], token)):
        kept.add(token)
        mass += probs[token]
        if mass >= p:
            break
    return kept


def distribution_plainly(sampler: Sampler, logits: Sequence[float], history: Sequence[int] = ()) -> list[float]:
    """`Sampler.distribution` as its definition reads, for one row: lists, loops and nothing clever."""
    penalty = sampler.repetition_penalty
    scores = [x if token not in history else x * penalty if x < 0 else x / penalty for token, x in enumerate(logits)]
    ranked = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    if sampler.temperature == 0:
        return [float(token == ranked[0]) for token in range(len(scores))]
    kept = set(ranked[: sampler.top_k])
    probs = _softmax_plainly([x / sampler.temperature if t in kept else -math.inf for t, x in enumerate(scores)])
    if sampler.top_p is not None and sampler.top_p < 1:
        kept = nucleus_plainly(probs, sampler.top_p)
        probs = _share_plainly([x if token in kept else 0.0 for token, x in enumerate(probs)])
    if sampler.min_p is not None:
        border = sampler.min_p * max(probs)
        probs = _share_plainly([x if x >= border else 0.0 for x in probs])
    return probs


def invert(probs: Probabilities, uniform: Float[Tensor, " batch"]) -> Picked:
    """The token in whose stretch of [0, 1) each uniform number falls; a token of probability 0 has no stretch."""
    heights = probs.double().cumsum(-1)
    total = heights[..., -1:]
    # Rounding may lift u * total onto total itself, one past the last stretch.
    mark = torch.minimum(uniform.to(heights)[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(heights, mark, right=True).squeeze(-1)


def _checked(logits: NextLogits) -> NextLogits:
    """The logits in float64 on the CPU, refused if nothing can be chosen from them.

    The mass of a nucleus over 50,000 tokens loses digits in float32, and a seed must mean the same on every device.
    """
    wide = logits.detach().to("cpu", torch.float64)
    _refuse_bad(wide.max(-1).values)
    return wide


def _refuse_bad(top: Float[Tensor, " batch"]) -> None:
    """Refuse rows whose largest logit is not a number (one of them is none), infinite, or -inf (all are)."""
    bad = ~top.isfinite()
    if bad.any():
        row = int(bad.nonzero()[0])
        raise Diverged(
            f"row {row}: the model's logits are not finite, so no token can be chosen",
            hint="the weights went bad: use an earlier checkpoint",
        )


def _renormalised(probs: Probabilities, kept: Kept) -> Probabilities:
    probs = probs.masked_fill(~kept, 0.0)
    return probs / probs.sum(-1, keepdim=True)


def _softmax_plainly(scores: Sequence[float]) -> list[float]:
    top = max(scores)
    return _share_plainly([math.exp(x - top) for x in scores])


def _share_plainly(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return [x / total for x in weights]
