"""What do several seeds say together? A mean with its spread, and whether two models can be told apart.

    3.41 3.44 3.39  -> Band: mean 3.413, 3.39 .. 3.44, standard error 0.015
    a - b, seed by seed -> Difference: mean, margin at 95 %, told apart or not

Models are compared seed by seed because a seed fixes the order of the data for all of them: what they share cancels. The margin is
Student's (1908): t(0.975, n - 1) standard errors of the differences. One seed has no margin, and then nothing is told apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from picolab.errors import BadInput

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A figure over seeds: mean, smallest, largest; `standard_error` of the mean is None with one seed."""

    mean: float
    low: float
    high: float
    standard_error: float | None
    seeds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far one model is above another, over the seeds both have; `margin` is None with one seed."""

    mean: float
    margin: float | None
    seeds: int

    @property
    def told_apart(self) -> bool:
        """Whether the difference is larger than what seeds alone explain."""
        return self.margin is not None and abs(self.mean) > self.margin


def band(values: Sequence[float]) -> Band:
    """The mean and spread of one figure over seeds."""
    if not values:
        raise BadInput("a band needs at least one value", hint="no seed of this model finished")
    mean = math.fsum(values) / len(values)
    # The mean of equal numbers may round to just outside them.
    low, high = min(values), max(values)
    return Band(
        mean=min(max(mean, low), high), low=low, high=high, standard_error=_standard_error(values), seeds=len(values)
    )


def band_or_none(values: Sequence[float | None]) -> Band | None:
    """The band of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return band(known) if known else None


def difference(of: Mapping[int, float], against: Mapping[int, float], *, comparisons: int = 1) -> Difference | None:
    """`of` minus `against`, seed by seed; None where they share no seed.

    Who looks at several differences and speaks of the largest says how many `comparisons` there were: the margin is then wide
    enough for all of them together (Bonferroni).
    """
    pairs = [of[seed] - against[seed] for seed in of if seed in against]
    if not pairs:
        return None
    error = _standard_error(pairs)
    certainty = 1 - (1 - CONFIDENCE) / (2 * comparisons)
    margin = None if error is None else float(stdtrit(len(pairs) - 1, certainty)) * error
    return Difference(mean=math.fsum(pairs) / len(pairs), margin=margin, seeds=len(pairs))


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
