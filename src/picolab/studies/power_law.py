"""How fast does the loss fall with size, data and compute? A straight line through logarithms, with its uncertainty.

    ln(loss - floor) = a - alpha * ln(x)          alpha +- Student's margin of the slope, n - 2 degrees of freedom

After Kaplan et al. 2020. With two things that grow, each is looked at where the other is largest; compute is looked at along the
front of points that no cheaper one beats. Where the data's rule is known, its entropy is taken off first; elsewhere the floor is
unknown, the line is through the loss itself, and the exponent is a local one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from picolab.compare.bands import CONFIDENCE

FEWEST = 3
"""Two points always lie on a line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """`loss - floor = scale * x ** -exponent` over `points` points from `low` to `high`; `margin` is that of the exponent at 95
    %."""

    exponent: float
    margin: float
    scale: float
    r_squared: float
    floor: float
    points: int
    low: float
    high: float

    @property
    def told_from_flat(self) -> bool:
        """Whether the loss changes with x at all, as far as these points can tell."""
        return abs(self.exponent) > self.margin

    @property
    def tenfold(self) -> float:
        """What ten times x multiplies the loss above the floor by."""
        return float(10.0**-self.exponent)

    def at(self, x: float) -> float:
        return float(self.floor + self.scale * x**-self.exponent)


def power_law(x: Sequence[float], loss: Sequence[float], *, floor: float | None = None) -> Fit | None:
    """The fit; None with fewer than three different x, or where the loss is at the floor."""
    least = floor if floor is not None else 0.0
    if len(set(x)) < FEWEST or min(loss) <= least or min(x) <= 0:
        return None
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(loss, float) - least)
    du, dv = u - u.mean(), v - v.mean()
    slope = float((du * dv).sum() / (du**2).sum())
    residual = dv - slope * du
    free = len(x) - 2
    error = math.sqrt(float((residual**2).sum()) / free / float((du**2).sum()))
    varied = float((dv**2).sum())
    return Fit(
        exponent=-slope,
        margin=float(stdtrit(free, (1 + CONFIDENCE) / 2)) * error,
        scale=math.exp(float(v.mean() - slope * u.mean())),
        r_squared=1 - float((residual**2).sum()) / varied if varied else 0.0,
        floor=least,
        points=len(x),
        low=min(x),
        high=max(x),
    )
