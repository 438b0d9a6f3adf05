"""Do points lie in the order of their numbers? Beside every answer, what the same points with shuffled numbers give.

0 - 1 - 2 - 3 - 4         steps: short, where each number lies beside the next        a line, a circle, any smooth path
                          known: the number, read off the first components            a line wholly, a circle in part
                          rank:  the number's rank, read off one component            a line
even | odd                period: what comes again every so many numbers
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from picolab.interpret.chance import Measured, Numbers, measured, shuffles

COMPONENTS = 3
"""How many components are asked what they know of the number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Whether points have the order of their numbers.

    `steps`: the mean squared distance from a number to the next, as a share of that between any two (1: no order, 0: smooth).
    `known`: the share of the number's variance that the first components explain together. `rank`: the largest of their rank
    correlations with the number, without sign. `ends`: the distance from the first to the last number, as a share of the mean
    between two: near 0 the path is closed. `period`: the share of the variance that repeats every `every` numbers, the best of all
    periods from 2 to an eighth of the numbers, beside the best of shuffled numbers.
    """

    count: int
    steps: Measured
    known: Measured
    rank: Measured
    ends: float
    every: float
    period: Measured

    @property
    def is_there(self) -> bool:
        return self.steps.is_clear


def order_of(points: Numbers, *, seed: int = 0) -> Order:
    """Whether points `(count, d_model)`, given in the order of their numbers, lie in that order."""
    count = len(points)
    orders = shuffles(count, seed)
    centred = points - points.mean(axis=0)
    left = np.linalg.svd(centred, full_matrices=False)[0][:, :COMPONENTS]
    gram = centred @ centred.T
    apart = np.maximum(np.diag(gram)[:, None] + np.diag(gram) - 2 * gram, 0.0)
    between = float(apart.sum()) / (count * (count - 1))
    distance = np.sqrt(apart)

    def steps(order: NDArray[np.int64]) -> Numbers:
        return np.asarray(apart[order[:, :-1], order[:, 1:]].mean(axis=1) / between)

    number = standard(np.arange(count, dtype=np.float64)[None])
    ranks = standard(rankdata(left, axis=0).T)  # components x count

    def known(order: NDArray[np.int64]) -> Numbers:
        return np.asarray(((number[0][order] @ left) ** 2).sum(axis=1))

    def rank(order: NDArray[np.int64]) -> Numbers:
        return np.asarray(np.abs(number[0][order] @ ranks.T).max(axis=1))

    total = float((centred**2).sum())
    first = max(1, count // 8)  # fewer rounds than this are no period but the order itself

    def rounds(order: NDArray[np.int64]) -> Numbers:
        power = np.abs(np.fft.rfft(centred[order], axis=0)[first:]) ** 2
        power[: (count - 1) // 2 + 1 - first] *= 2  # all but the fastest of an even count stand for two
        return np.asarray(power.sum(axis=-1) / count / total)

    as_it_is = np.arange(count)[None]
    beats = rounds(as_it_is[0])
    return Order(
        count=count,
        steps=measured(steps(as_it_is)[0], steps(orders), small=True),
        known=measured(known(as_it_is)[0], known(orders)),
        rank=measured(rank(as_it_is)[0], rank(orders)),
        every=count / (first + int(beats.argmax())),
        period=measured(float(beats.max()), [float(rounds(order).max()) for order in orders]),
        ends=float(distance[0, -1] / (distance.sum() / (count * (count - 1)))),
    )


def standard(rows: Numbers) -> Numbers:
    """Rows without their mean and of length 1, so that a product of two is their correlation."""
    centred = rows - rows.mean(axis=-1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    return np.asarray(centred / np.where(length == 0, 1.0, length))
