"""Could this be chance? What every analysis here says beside its number.

    the number as measured                              0.83
    the same after labels were shuffled, many times     0.02 0.05 0.01 ..   -> p: how often shuffling does as well
    p of a thousand neurons at once                                         -> q: share of false finds (Benjamini-Hochberg 1995)

A shuffled labelling counts itself: p is never 0 (Phipson and Smyth 2010, arXiv:1603.05766).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHUFFLES = 999
"""With the labelling as it is, a thousand."""

CLEAR = 0.05
"""The q below which one of many finds is called one."""

SURE = 0.01
"""The p below which a single question is answered with yes: many are asked of a model."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A number, the middle 95 % of what shuffled labels give, and how often they give as much (`p`)."""

    value: float
    low: float
    high: float
    p: float

    @property
    def is_clear(self) -> bool:
        return self.p < SURE

    def __str__(self) -> str:
        return f"{self.value:.2f} (shuffled: {self.low:.2f} to {self.high:.2f}, p = {probability(self.p)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A mean over `count` texts and its 95 % interval; no interval of fewer than two."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}" if self.count > 1 else f"{self.mean:.3f}"


def measured(value: float, shuffled: ArrayLike, *, small: bool = False) -> Measured:
    """A number against what shuffling gives; `small` where small values, not large ones, are the remarkable ones."""
    null = np.asarray(shuffled, dtype=np.float64)
    low, high = np.quantile(null, [0.025, 0.975])
    return Measured(value=float(value), low=float(low), high=float(high), p=float(p_value(value, null, small=small)))


def p_value(value: ArrayLike, shuffled: ArrayLike, *, small: bool = False) -> Numbers:
    """How often shuffling does as well, itself counted: `(1 + as good) / (1 + shuffles)`; shuffles along the first axis."""
    seen, null = np.asarray(value, dtype=np.float64), np.asarray(shuffled, dtype=np.float64)
    if small:
        seen, null = -seen, -null
    slack = 1e-9 * np.maximum(1.0, np.abs(seen))  # the same labelling in another order of addition
    return np.asarray((1 + (null >= seen - slack).sum(axis=0)) / (1 + len(null)))


def false_finds(p: ArrayLike) -> Numbers:
    """Of each p the q: calling everything up to it a find is wrong in a share q of the finds, on average."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    ranked = values[order] * len(values) / np.arange(1, len(values) + 1)
    q = np.empty_like(values)
    q[order] = np.minimum.accumulate(ranked[::-1])[::-1]
    return np.minimum(q, 1.0)


def shuffles(count: int, seed: int, times: int = SHUFFLES) -> NDArray[np.int64]:
    """`(times, count)`: every row an order of 0 .. count - 1."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.broadcast_to(np.arange(count), (times, count)), axis=1)


def band(values: ArrayLike) -> Band:
    """The mean over texts, with the interval of Student's t."""
    from scipy.stats import t

    seen = np.asarray(values, dtype=np.float64)
    n, mean = len(seen), float(seen.mean())
    half = float(t.ppf(0.975, n - 1)) * float(seen.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return Band(mean=mean, low=mean - half, high=mean + half, count=n)


def probability(p: float) -> str:
    """A p as it is read: three decimals, and two digits where that would be nothing."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"


def percent(share: float) -> str:
    """A share as it is read."""
    return f"{100 * share:.0f} %"
