"""Reading a curve: is it flat, where is it lowest, what is it at the end, without being fooled by noise?

values    4.1 3.9 3.2 2.8 2.9 2.7 | 2.8 2.6 2.7        first, last: medians of a stretch at each end
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

Values = Sequence[float]


def finite(values: Values) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def first(values: Values, share: float = 0.1) -> float:
    """The median of the beginning."""
    return statistics.median(values[: max(1, round(len(values) * share))])


def last(values: Values, share: float = 0.1) -> float:
    """The median of the end."""
    return statistics.median(values[-max(1, round(len(values) * share)) :])


def noise(values: Values) -> float:
    """How far a value jumps from one step to the next, as a standard deviation, whatever the trend."""
    jumps = [abs(b - a) for a, b in pairwise(values)]
    return statistics.median(jumps) / 0.954 if jumps else 0.0
