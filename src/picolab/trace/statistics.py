"""What is worth keeping of a tensor that is too large to keep? Its moments, and of attention what each query does.

    value (any shape)                  -> count mean std rms min max, how many are not finite
    scores and probs, (.., time, past) -> the same of the pairs with key <= query: what lies after is never used
    probs, block by block of queries   -> row sum, entropy, heaviest weight and its key, each (batch, heads, time)

A tensor is read in pieces that fit a cache, and pieces are merged in double precision: no copy of it is made, and a text of any
length costs a few numbers a query.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

PIECE = 2**17
"""Numbers read together: half a megabyte in float32."""

CORNER = 64
"""Queries whose visible keys are cut out together."""

PerQuery = Float[Tensor, "batch heads time"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """The moments of the finite numbers of a tensor; `shape` is that of the whole, were it kept."""

    shape: tuple[int, ...]
    dtype: str
    count: int
    mean: float
    std: float
    rms: float
    minimum: float
    maximum: float
    not_finite: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """What every query does with its attention: in nats the entropy, in shares the rest."""

    row_sum: PerQuery
    entropy: PerQuery
    heaviest: PerQuery
    heaviest_key: Int64[Tensor, "batch heads time"]


def statistics_of(value: Tensor) -> Statistics:
    """The statistics of one tensor, on whatever device it lies."""
    running = Running()
    running.add(value)
    return running.statistics(tuple(value.shape))


def statistics_of_pairs(scores: Tensor) -> Statistics:
    """The statistics of scores or probabilities `(.., time, past)` over the pairs with key <= query."""
    running = Running()
    running.add_pairs(scores)
    return running.statistics(tuple(scores.shape))


@dataclass(slots=True)
class Running:
    """Statistics of tensors that arrive one after the other."""

    dtype: str = ""
    count: int = 0
    not_finite: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean
    minimum: float = math.inf
    maximum: float = -math.inf
    parts: list[Attention] = field(default_factory=list)

    def add(self, value: Tensor) -> None:
        """Merge in another block."""
        self.dtype = str(value.dtype).removeprefix("torch.")
        for piece in _pieces(value.detach()):
            self._add(piece)

    def add_pairs(self, scores: Tensor) -> None:
        """Merge in the visible pairs of further queries, `(.., rows, keys)`: the last query stands at the last key."""
        rows, before = scores.shape[-2], scores.shape[-1] - scores.shape[-2]
        for start in range(0, rows, CORNER):
            block = scores[..., start : start + CORNER, :]
            first, n = before + start, block.shape[-2]
            if first:
                self.add(block[..., :first])
            lower = torch.ones(n, n, dtype=torch.bool, device=scores.device).tril()
            self.add(block[..., first : first + n][..., lower])

    def add_attention(self, probs: Tensor) -> None:
        """Merge in the probabilities of further queries, `(batch, heads, rows, keys)`."""
        self.add_pairs(probs)
        self.parts.append(attention_of(probs))

    def _add(self, numbers: Tensor) -> None:
        """Means and squared distances of two sets give those of both (Chan, Golub and LeVeque 1979)."""
        if not numbers.numel():
            return None
        if not numbers.is_floating_point():
            numbers = numbers.to(torch.float64)
        elif numbers.element_size() < 4:
            numbers = numbers.float()
        least, most = (float(x) for x in torch.aminmax(numbers))
        if not (math.isfinite(least) and math.isfinite(most)):
            finite = numbers[numbers.isfinite()]
            self.not_finite += numbers.numel() - finite.numel()
            return self._add(finite)
        if not 1e-15 < max(abs(least), abs(most)) < 1e15:
            numbers = numbers.double()  # squares would leave the range of float32
        n = numbers.numel()
        mean = float(numbers.mean())
        squares = float((numbers - mean).square_().sum())
        gap, total = mean - self.mean, self.count + n
        self.squares += squares + gap * gap * self.count * n / total
        self.mean += gap * n / total
        self.count = total
        self.minimum, self.maximum = min(self.minimum, least), max(self.maximum, most)
        return None

    def statistics(self, shape: tuple[int, ...]) -> Statistics:
        if self.count == 0:
            nothing = math.nan
            return Statistics(
                shape=shape, dtype=self.dtype, count=0, mean=nothing, std=nothing, rms=nothing, minimum=nothing,
                maximum=nothing, not_finite=self.not_finite,
            )  # fmt: skip
        variance = self.squares / self.count
        return Statistics(
            shape=shape,
            dtype=self.dtype,
            count=self.count,
            mean=self.mean,
            std=math.sqrt(variance),
            rms=math.sqrt(variance + self.mean**2),
            minimum=self.minimum,
            maximum=self.maximum,
            not_finite=self.not_finite,
        )

    def attention(self) -> Attention | None:
        return _joined(self.parts) if self.parts else None


def attention_of(probs: Float[Tensor, "batch heads rows keys"]) -> Attention:
    """What each of these queries does."""
    parts = [
        _attention_of(part)
        for part in probs.detach().split(max(1, probs.shape[2] * PIECE // max(probs.numel(), 1)), dim=2)
    ]
    return _joined(parts)


def _attention_of(probs: Tensor) -> Attention:
    probs = probs.float()
    heaviest, key = probs.max(-1)
    # 0 log 0 is 0; torch.xlogy knows that too, and takes three times as long.
    entropy = -probs.clamp_min(torch.finfo(probs.dtype).tiny).log_().mul_(probs).sum(-1)
    return Attention(row_sum=probs.sum(-1), entropy=entropy, heaviest=heaviest, heaviest_key=key)


def _joined(parts: list[Attention]) -> Attention:
    names = ("row_sum", "entropy", "heaviest", "heaviest_key")
    return Attention(**{name: torch.cat([getattr(part, name) for part in parts], dim=-1) for name in names})


def _pieces(value: Tensor) -> Iterator[Tensor]:
    """All numbers of a tensor, flat, some at a time; a view is not copied whole."""
    if value.is_contiguous():
        yield from value.flatten().split(PIECE)
    elif value.numel() <= PIECE:
        yield value.flatten()
    else:
        axis = next(axis for axis, length in enumerate(value.shape) if length > 1)
        for part in value.split(max(1, PIECE * value.shape[axis] // value.numel()), dim=axis):
            yield from _pieces(part)
