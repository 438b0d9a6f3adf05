"""Which points are worth their price? Those that no cheaper point beats: the front of Pareto.

loss  o .                     o on the front
        o   .                 . beaten by one that costs no more
           o    .   o         cost ->
"""

from __future__ import annotations

from collections.abc import Mapping


def front(cost: Mapping[int, float], figure: Mapping[int, float], *, lower: bool = True) -> tuple[int, ...]:
    """The numbers of the points on the front, cheapest first; of equal points the first one stands for all."""
    sign = 1.0 if lower else -1.0
    kept: list[int] = []
    best = float("inf")
    for number in sorted(cost, key=lambda n: (cost[n], sign * figure[n], n)):
        if sign * figure[number] < best:
            best = sign * figure[number]
            kept.append(number)
    return tuple(kept)
